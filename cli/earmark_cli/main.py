"""The `earmark` command: one group for each part of the house whose extra is installed."""

from __future__ import annotations

import importlib
import logging
import sys
from importlib.util import find_spec
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

GROUPS = {
    "data": ("earmark_cli.data", "soundfile", "edge", "Read and check labelled corpora."),
    "model": ("earmark_cli.model", "torch", "train", "Export and measure models."),
    "edge": ("earmark_edge.cli", "soundfile", "edge", "Run a bundle on the device: flag screams and cries."),
    "review": ("earmark_review.cli", "fastapi", "review", "Serve flagged clips to reviewers."),
}
"""Group: (module with its typer app, a package that the group needs, the extra that brings it, one line of help)."""


def build(only: str | None = None) -> typer.Typer:
    """The command line with the groups that can run here, or with the group `only`; those not installed say what to install."""
    app = typer.Typer(
        name="earmark",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",  # otherwise the line breaks of docstrings stand in the help, whatever the terminal's width
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Sensitive-sound triage on the device: screams and cries are flagged, ordinary speech stays at home.",
    )
    app.callback()(_configure)
    for name, (module, needed, extra, line) in GROUPS.items():
        if only not in {None, name}:
            continue
        if find_spec(needed):
            app.add_typer(importlib.import_module(module).app, name=name, help=line)
        else:
            _add_hint(app, name, extra)
    if only in GROUPS:
        return app
    if find_spec("soundfile") and find_spec("fastapi"):
        app.command("demo")(importlib.import_module("earmark_cli.demo").demo)
    else:
        _add_hint(app, "demo", "edge,review")
    return app


def main() -> None:
    """Entry point of the console script. A device that scans does not load the review server beside it."""
    named = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    build(named if named in GROUPS else None)()


def _configure(verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens to stderr.")] = False) -> None:
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", handlers=[RichHandler(console=Console(stderr=True), show_path=False)])


def _add_hint(app: typer.Typer, name: str, extra: str) -> None:
    @app.command(name, hidden=True, context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
    def hint() -> None:
        sys.stderr.write(f"earmark {name} is not installed; get it with: pip install 'earmark[{extra}]'\n")
        raise typer.Exit(2)


if __name__ == "__main__":
    main()
