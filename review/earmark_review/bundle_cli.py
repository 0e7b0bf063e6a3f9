"""`earmark review bundle`: offer new bundles to devices, go back to earlier ones, and see what became of them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from earmark_model.contract import GRAPH_FILE
from earmark_review.opened import DataOption, JsonOption, opened
from earmark_review.store.bundles import DeviceBundle, Offered, device_bundles, files_of, offer_bundle, offers

DeviceOption = Annotated[
    list[str] | None, typer.Option("--device", metavar="NAME", help="Offer it to this device alone; may be given several times.")
]


bundle_app = typer.Typer(help="Bundles that devices are offered.", no_args_is_help=True)


@bundle_app.command("offer")
def offer_command(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The folder that `earmark model export` made.")],
    device: DeviceOption = None,
    data: DataOption = None,
) -> None:
    """Offer a bundle, signed, as the next version.

    Devices load it within the hour and run it in shadow beside the one that they have. Once it has heard its canaries it takes over;
    where it misses one, or flags far more, the old one stays and `bundle list` says so. Try it on a few devices first: --device.
    """
    with opened(data) as service:
        files = service.bundle_files.keep(bundle)
        with service.database.writing() as conn:
            offer = offer_bundle(conn, files, device, service.now())
    typer.echo(f"bundle {offer.version} is offered to {_whom(device)}; devices try it within the hour")


@bundle_app.command("again")
def again_command(
    version: Annotated[int, typer.Argument(min=1, help="The earlier version, as `bundle list` shows it.")],
    device: DeviceOption = None,
    data: DataOption = None,
) -> None:
    """Go back: offer an earlier bundle under a new, higher version. It is tried like any other."""
    with opened(data) as service, service.database.writing() as conn:
        files = files_of(conn, version)
        for file in files:
            service.bundle_files.path(file)
        offer = offer_bundle(conn, files, device, service.now())
    typer.echo(f"bundle {version} is offered again as bundle {offer.version} to {_whom(device)}")


@bundle_app.command("list")
def list_command(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show what was offered, and what devices say became of it."""
    with opened(data) as service, service.database.reading() as conn:
        offered, devices = offers(conn), device_bundles(conn)
    if as_json:
        for each in offered:
            words = {"offered_at": each.offer.offered_at, "devices": each.devices, "files": [asdict(file) for file in each.offer.files]}
            typer.echo(json.dumps({"type": "offer", "version": each.offer.version, **words}))
        for said in devices:
            typer.echo(json.dumps({"type": "device", **asdict(said)}))
        return
    _show(offered, devices)


def _show(offered: list[Offered], devices: list[DeviceBundle]) -> None:
    table = Table("bundle", "offered", "to", "graph")
    for each in offered:
        graph = next(file.sha256[:12] for file in each.offer.files if file.name == GRAPH_FILE)
        table.add_row(str(each.offer.version), each.offer.offered_at[:16], _whom(each.devices), graph)
    Console().print(table if offered else "none was offered; `earmark review bundle offer BUNDLE` does it")
    told = Table("device", "runs", "offered last", "trial")
    for said in devices:
        outcome = said.trial.replace("_", " ") or ("passed" if said.offered and said.running == said.offered else "")
        told.add_row(said.device, str(said.running or "its own"), str(said.offered or "none"), outcome)
    if offered and devices:
        Console().print(told)


def _whom(devices: list[str] | tuple[str, ...] | None) -> str:
    return ", ".join(devices) if devices else "every device"
