"""What the commands of `earmark review` have in common: the data folder's option, and the service behind it while a command runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from earmark_review.errors import ReviewError
from earmark_review.service import Service, open_service
from earmark_review.settings import read_settings

DataOption = Annotated[
    Path | None, typer.Option("--data", help="Folder of the database and the clips. [default: ./earmark-review, or $EARMARK_REVIEW_DATA]")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@contextmanager
def opened(data: Path | None, **overrides: object) -> Iterator[Service]:
    """The service behind a data folder; what it refuses becomes one line and exit status 1."""
    try:
        service = open_service(read_settings(data=data, **overrides))
        try:
            yield service
        finally:
            service.close()
    except ReviewError as error:
        typer.echo(f"earmark review: {error}", err=True)
        raise typer.Exit(1) from error
