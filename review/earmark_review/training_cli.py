"""`earmark review export`, `withdrawals`, `golden` and `misses`: what verdicts are good for once they are given."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from earmark_model.consents import MarkError, mark
from earmark_review.cases import Verdict
from earmark_review.errors import SettingsError
from earmark_review.export import export
from earmark_review.misses import misses_in_words
from earmark_review.opened import DataOption, JsonOption, opened
from earmark_review.store.exports import Gone, all_gone
from earmark_review.store.golden import add_golden
from earmark_review.store.missed import missed
from earmark_review.store.overview import WEEKS, overview
from earmark_review.withdrawals import marks_of


def tell_missed(missed: Sequence[str]) -> None:
    """Say which exports and models a withdrawal could not reach."""
    for line in missed:
        typer.echo(f"earmark review: {line}", err=True)


def withdrawals_command(
    data: DataOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write everything that was ever withdrawn here, for `earmark model withdraw --mark`.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Let withdrawals and deletions reach exports and the models made of them; exit status 1 where some cannot be reached.

    The running service does so each minute. What was withdrawn is deleted from the export's folder; its manifest and the models carry
    the mark `withdrawn.json`, on which `train.py` and `earmark model export` refuse them.
    """
    with opened(data) as service:
        reached = service.reach_exports()
        with service.database.reading() as conn:
            gone = all_gone(conn)
        if out is not None:
            _write_marks(out, gone)
    if as_json:
        lists = {"exports": [str(path) for path in reached.exports], "models": [str(path) for path in reached.models]}
        typer.echo(json.dumps({"withdrawn": len(gone), **lists, "missed": list(reached.missed)}))
    else:
        typer.echo(f"{len(gone)} exported rows are withdrawn; marked now: {len(reached.exports)} exports, {len(reached.models)} models")
    tell_missed(reached.missed)
    if reached.missed:
        raise typer.Exit(1)


def _write_marks(out: Path, gone: Sequence[Gone]) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        mark(out, marks_of(gone))
    except (OSError, MarkError) as error:
        msg = f"{out}: the marks cannot be written ({error})"
        raise SettingsError(msg) from error


def export_command(
    out: Annotated[Path, typer.Option("--out", help="A new folder for the corpus.")],
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write verdicts as labels, and the clips whose households consented to training as a corpus for `train.py`."""
    with opened(data) as service:
        made = export(service, out)
    if as_json:
        typer.echo(json.dumps(asdict(made)))
        return
    typer.echo(f"{made.rows} verdicts in {out / 'verdicts.csv'}; {made.labels} labels in {out / 'manifest.csv'}, {made.clips} with sound")
    if not made.clips:
        typer.echo("nothing to train with yet: no household consented to training, or none of its cases is settled", err=True)
    if made.missing:
        typer.echo(f"{made.missing} more could not be opened, or came without their original", err=True)


def misses_command(
    data: DataOption = None,
    weeks: Annotated[int, typer.Option(min=1, max=520, help="Count the events of the last so many weeks.")] = WEEKS,
    as_json: JsonOption = False,
) -> None:
    """Estimate how many sounds the ear missed, with an interval, from the random slice that homes consented to, and from canaries.

    The policy's `--slice P` draws sounds below the threshold; each that a reviewer confirms stands for 1/P of them.
    """
    with opened(data) as service, service.database.reading() as conn:
        found = missed(conn, service.now() - timedelta(weeks=weeks))
        canaries = [health.canary for health in overview(conn, service.now()).devices]
    heard, lost = canaries.count("passed"), canaries.count("missed")
    if as_json:
        typer.echo(json.dumps({"weeks": weeks, **asdict(found), "canaries_heard": heard, "canaries_missed": lost}))
        return
    typer.echo(f"homes that let a slice be drawn: {found.homes}; the last {weeks} weeks")
    for line in misses_in_words(found):
        typer.echo(line)
    typer.echo(f"canaries: of {heard + lost} devices that play them {lost} missed their last")


def golden_command(
    case_id: Annotated[str, typer.Argument(metavar="CASE", help="The settled case's id, as its page's address has it.")],
    expected: Annotated[Verdict, typer.Argument(metavar="VERDICT", help="The answer that is known to be right.")],
    data: DataOption = None,
) -> None:
    """Mix a settled case in among the others, unmarked, for whoever has not judged it."""
    with opened(data) as service:
        with service.database.writing() as conn:
            add_golden(conn, case_id, expected, service.now())
        typer.echo(f"case {case_id[:8]} is golden: {expected}")
