"""`earmark review event`: deleting what devices sent."""

from __future__ import annotations

from typing import Annotated

import typer

from earmark_review.opened import DataOption, opened
from earmark_review.training_cli import tell_missed

event_app = typer.Typer(help="Events that devices sent.", no_args_is_help=True)


@event_app.command("delete")
def delete_event_command(
    device: Annotated[str, typer.Argument(help="The device that sent it.")],
    event_id: Annotated[str, typer.Argument(help="The event's id.")],
    data: DataOption = None,
) -> None:
    """Delete an event, its case and its clips; a tombstone refuses it from then on."""
    with opened(data) as service:
        service.delete_event(device, event_id)
        typer.echo(f"deleted {event_id!r} of {device!r}")


@event_app.command("erase-household")
def erase_household_command(
    consent_id: Annotated[str, typer.Argument(metavar="CONSENT_ID", help="The household's record of consent.")], data: DataOption = None
) -> None:
    """Delete every event that came under a household's consent, their cases and clips; tombstones refuse them from then on.

    What of it was exported is deleted there, and the export and the models made of it are marked; what cannot be reached is told.
    """
    with opened(data) as service:
        typer.echo(f"deleted {service.erase_household(consent_id)} events")
        tell_missed(service.reach_exports().missed)
