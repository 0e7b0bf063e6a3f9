"""`earmark review device` and `policy`: which devices may send, and what they are asked to send."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from earmark_model.contract import SENSITIVE
from earmark_review.opened import DataOption, JsonOption, opened
from earmark_review.store.devices import list_devices, revoke_device
from earmark_review.store.policies import issue_policy

device_app = typer.Typer(help="Devices that may send events.", no_args_is_help=True)
policy_app = typer.Typer(help="What devices are asked to send.", no_args_is_help=True)


@device_app.command("enrol")
def enrol_device_command(
    name: Annotated[str, typer.Argument(help="A name for the device.")],
    hours: Annotated[float, typer.Option(min=0.1, max=168, help="How long the code is good for.")] = 1.0,
    data: DataOption = None,
) -> None:
    """Print a one-time code, with which the device enrols itself: `earmark edge enrol URL --code CODE`."""
    with opened(data) as service:
        code = service.offer_enrolment(name, timedelta(hours=hours))
        typer.echo(f"on the device, within {hours:g} h: earmark edge enrol URL --code CODE", err=True)
        typer.echo(f"it must show this service's fingerprint: {service.identity.fingerprint}", err=True)
        typer.echo(code)


@device_app.command("list")
def list_devices_command(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show the enrolled devices."""
    with opened(data) as service, service.database.reading() as conn:
        found = list_devices(conn)
    if as_json:
        for device in found:
            times = {name: getattr(device, name) for name in ("created_at", "revoked_at", "last_seen_at")}
            typer.echo(json.dumps({"name": device.name, **{name: at.isoformat() if at else None for name, at in times.items()}}))
        return
    table = Table("name", "enrolled", "last seen", "revoked")
    for device in found:
        times_shown = (device.created_at, device.last_seen_at, device.revoked_at)
        table.add_row(device.name, *(f"{at:%Y-%m-%d %H:%M} UTC" if at else "never" for at in times_shown))
    Console().print(table if found else "no devices; enrol one with `earmark review device enrol NAME`")


@device_app.command("revoke")
def revoke_device_command(name: Annotated[str, typer.Argument(help="The device's name.")], data: DataOption = None) -> None:
    """Make a device's token worthless from now on."""
    with opened(data) as service:
        with service.database.writing() as conn:
            revoke_device(conn, name, service.now())
        typer.echo(f"revoked {name!r}")


@policy_app.command("issue")
def issue_policy_command(
    tiers: Annotated[str, typer.Option(help="What devices may send, of 0 (scores), 1 (picture), 2 (masked), 3 (original).")],
    labels: Annotated[str, typer.Option(help="Sounds that are routed here.")] = ",".join(SENSITIVE),
    urgent: Annotated[str, typer.Option(help="Of these, the ones that are sent first and dropped last.")] = "scream",
    slice_probability: Annotated[
        float,
        typer.Option(
            "--slice", metavar="P", help="Draw each sound below the threshold with this probability, where homes consented to it."
        ),
    ] = 0.0,
    data: DataOption = None,
) -> None:
    """Put the next version of the policy in force; a device refuses one that its household did not consent to."""
    with opened(data) as service:
        try:
            wanted = [int(tier) for tier in tiers.split(",") if tier.strip()]
            with service.database.writing() as conn:
                policy = issue_policy(conn, wanted, _words(labels), _words(urgent), service.now(), slice_probability)
        except ValueError as error:
            typer.echo(f"earmark review: {error}", err=True)
            raise typer.Exit(2) from error
        typer.echo(f"policy {policy.version} is in force; devices take it with their next heartbeat")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
