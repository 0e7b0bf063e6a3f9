"""`earmark review move`: an installation's rows, keys and clips into other stores."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, track

from earmark_review.blobs import copy_blobs
from earmark_review.errors import SettingsError
from earmark_review.keystore import move_keys
from earmark_review.opened import DataOption, opened
from earmark_review.service import Service, open_blobs
from earmark_review.settings import read_settings
from earmark_review.store.caseload import held_blobs
from earmark_review.store.database import Database
from earmark_review.store.moving import move_rows

IN_DATA = "folder"


def move_command(
    to: Annotated[
        str | None, typer.Option("--to", help="Address of an empty database: postgresql://USER:PASSWORD@HOST/NAME or sqlite:///PATH.")
    ] = None,
    keys_to: Annotated[str | None, typer.Option("--keys-to", help="Address of another one for the wrapped keys.")] = None,
    blobs_to: Annotated[
        str | None, typer.Option("--blobs-to", help="Store for the clips: s3://BUCKET/PREFIX, or `folder` for the one in the data folder.")
    ] = None,
    data: DataOption = None,
) -> None:
    """Copy rows, wrapped keys or clips into other stores, such as from SQLite to PostgreSQL; stop the service before.

    What is copied stays where it was, too; delete it there once the service runs with the new addresses.
    """
    if to is None and keys_to is None and blobs_to is None:
        typer.echo("earmark review: say what is to move where: --to, --keys-to, --blobs-to, or several of them", err=True)
        raise typer.Exit(2)
    with opened(data) as service:
        faults = _move_blobs(service, blobs_to) if blobs_to else []
        moved = move_keys(service.keys, keys_to) if keys_to else None
        if to:
            _move_rows(service, to)
    if moved is not None:
        typer.echo(f"{moved} wrapped keys copied; delete keys/wrapped.db once the service runs with EARMARK_REVIEW_KEYS")
    for fault in faults:
        typer.echo(f"earmark review: {fault}", err=True)
    if faults:
        raise typer.Exit(1)


def _move_rows(service: Service, to: str) -> None:
    target = Database(to)
    with Progress(console=Console(stderr=True)) as progress:
        shown = progress.add_task("copying", total=None)
        try:
            target.migrate()
            copied = move_rows(service.database, target, lambda table, count: progress.update(shown, description=f"{table}: {count}"))
        finally:
            target.close()
    typer.echo(f"{sum(copied.values())} rows of {len(copied)} tables copied, {copied['audit_log']} entries of the log among them")
    typer.echo("start the service with EARMARK_REVIEW_DATABASE set to the new address, and keep the old database until it runs")


def _move_blobs(service: Service, to: str) -> list[str]:
    """Copy every clip that some event names; return what is wrong with those that could not be."""
    url = None if to == IN_DATA else read_settings(blobs=to).blobs
    target = open_blobs(url, service.settings.data, service.identity)
    if target.address == service.blobs.address:
        msg = f"the clips lie in {target.address} already"
        raise SettingsError(msg)
    with service.database.reading() as conn:
        held = held_blobs(conn)
    faults = copy_blobs(service.blobs, target, track(held, "clips", console=Console(stderr=True)))
    setting = f"EARMARK_REVIEW_BLOBS={url}" if url else "no EARMARK_REVIEW_BLOBS"
    typer.echo(f"{len(held) - len(faults)} of {len(held)} clips copied to {target.address}; start the service with {setting}")
    return faults
