"""`earmark edge doctor`: is everything in order, and if not, what to do."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from earmark_edge.courier import MUTE_FILE
from earmark_edge.decide import DecideConfigError
from earmark_edge.doctor.announcing import check_announcing
from earmark_edge.doctor.check import Check, Verdict
from earmark_edge.doctor.hearing import check_bundle, inputs_checks
from earmark_edge.doctor.machine import check_clock, check_core_dumps, check_disk, check_spelling, check_swap, check_telemetry, swap_limit
from earmark_edge.doctor.service import check_listener, check_way_out, utc_now
from earmark_edge.listen.clock import clock_state
from earmark_edge.listen.inputs import inputs_of
from earmark_edge.listen.mute import Mute
from earmark_edge.listen.source import InputError
from earmark_edge.oneline import one_line
from earmark_edge.scorer import Scorer
from earmark_edge.settings import EdgeSettings, SettingsError, bundle_to_run
from earmark_model.contract import SAMPLE_RATE_HZ

FAILED, MISUSED = 1, 2
_STYLES = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "bold red"}


def doctor(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[INPUT...]", help="What to listen to for two seconds, named as for `listen`. Default: mic."),
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="A bundle's folder, or the name of one that ships (earmark); EARMARK_BUNDLE.")] = None,
    state: Annotated[Path | None, typer.Option(metavar="DIR", help="The device's state folder; EARMARK_STATE.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Check this device and say what to do.

    Inputs and their level, bundle, thresholds, a canary; clock, disk, swap, core dumps, telemetry; keys, consent, connection; broker and
    webhook, where they are set; and what a running listener says of itself. Nothing that is heard is kept. Exit status: 0 nothing failed
    (warnings may stand), 1 something failed, 2 misused.
    """
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    counts: Counter[Verdict] = Counter()
    try:
        edge = EdgeSettings.from_environment(os.environ)
        edge = replace(edge, state=state or edge.state, bundle=bundle or edge.bundle)
        for check in _checks(inputs or ["mic"], edge):
            counts[check.verdict] += 1
            _print(console, check, as_json=as_json)
    except (SettingsError, DecideConfigError, InputError) as error:
        sys.stderr.write(f"error: {one_line(error, 1_000)}\n")
        raise typer.Exit(MISUSED) from error
    if not as_json:
        console.print(f"{counts[Verdict.OK]} ok, {counts[Verdict.WARN]} warnings, {counts[Verdict.FAIL]} failed")
    raise typer.Exit(FAILED if counts[Verdict.FAIL] else 0)


def _checks(texts: list[str], edge: EdgeSettings) -> Iterator[Check]:
    scorer, checks = check_bundle(lambda: Scorer(bundle_to_run(edge.bundle, edge.state)[0]), edge.decide)
    rate_hz = scorer.spec.sample_rate_hz if scorer else SAMPLE_RATE_HZ
    yield from inputs_checks(inputs_of(texts, rate_hz, pcm=None, is_fast=True), rate_hz, Mute(edge.state / MUTE_FILE).reasons)
    yield from checks
    yield check_clock(clock_state())
    yield check_disk(edge.state, edge.outbox_bytes)
    pid, listener = check_listener(edge.state, utc_now())
    swaps = Path("/proc/swaps")
    yield check_swap(swaps.read_text(encoding="utf-8") if swaps.exists() else "", swap_limit(pid))
    yield check_core_dumps(pid)
    yield check_telemetry(os.environ)
    yield check_spelling(os.environ)
    yield from check_way_out(edge.state, utc_now())
    yield from check_announcing(os.environ)
    yield from listener


def _print(console: Console, check: Check, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(asdict(check)) + "\n")
        sys.stdout.flush()
        return
    line = Text.assemble(
        (f"{check.verdict.value:<6}", _STYLES[check.verdict]), (f"{one_line(check.name, 40):<21} ", "bold"), one_line(check.said)
    )
    console.print(line, soft_wrap=True)
    if check.advice:
        console.print(Text(f"{'':<28}{one_line(check.advice)}", style="dim"), soft_wrap=True)
