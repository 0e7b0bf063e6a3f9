"""`earmark edge explain`: why did it fire, or not."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, NoReturn

import numpy as np
import typer
from rich.console import Console
from rich.live import Live

from earmark_edge.courier import MUTE_FILE
from earmark_edge.decide import DecideConfigError
from earmark_edge.detector import Detector
from earmark_edge.explain.bars import bars
from earmark_edge.explain.page import page
from earmark_edge.explain.trace import Trace
from earmark_edge.keys import KeyFileError, write_private
from earmark_edge.listen.inputs import Input, inputs_of
from earmark_edge.listen.mute import Mute
from earmark_edge.listen.source import InputError, PcmFormat, SourceEndedError, SourceError
from earmark_edge.oneline import one_line
from earmark_edge.scorer import Scorer, ScoringError
from earmark_edge.settings import EdgeSettings, SettingsError, bundle_to_run
from earmark_model.contract import BundleError

FAILED, MISUSED = 1, 2
_REFRESHES_A_SECOND = 8


def explain(
    input_text: Annotated[str, typer.Argument(metavar="INPUT", help="A sound file, mic, or what else `listen` takes.")],
    bundle: Annotated[Path | None, typer.Option(help="A bundle's folder, or the name of one that ships (earmark); EARMARK_BUNDLE.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the page goes; the state folder's explain.html if not given.")] = None,
    seconds: Annotated[float, typer.Option(min=0, help="How long to listen; 0 is to the end, or until Ctrl-C.")] = 0.0,
    rate: Annotated[int | None, typer.Option(metavar="HZ", help="Sample rate of PCM (s16le, mono) on standard input.")] = None,
    state: Annotated[Path | None, typer.Option(metavar="DIR", help="The device's state folder; EARMARK_STATE.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer, the events and how near each label came as JSON.")] = False,
) -> None:
    """Show why a sound was flagged or not: live bars while it listens, then the answer and a page with the timeline.

    The page holds scores, thresholds, decisions and times of everything that was heard, speech included, and no sound. It lies on this
    device, readable by its owner alone, until the next run replaces it. Nothing is sent. Exit status: 0 done, 1 failed, 2 misused.
    """
    try:
        edge = EdgeSettings.from_environment(os.environ)
        edge = replace(edge, state=state or edge.state, bundle=bundle or edge.bundle)
        scorer = Scorer(bundle_to_run(edge.bundle, edge.state)[0], threads=edge.threads)
        pcm = PcmFormat(rate) if rate is not None else None
        (found,) = inputs_of([input_text], scorer.spec.sample_rate_hz, pcm=pcm, is_fast=True)
        mute = Mute(edge.state / MUTE_FILE)
        _check_unmuted(mute, found)
        trace = _hear(found, Detector(scorer, edge.decide), seconds, mute)
        path = out or edge.state / "explain.html"
        write_private(path, page(trace, found.name, datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")).encode())
    except (SettingsError, DecideConfigError, InputError) as error:
        _fail(error, MISUSED)
    except (BundleError, ScoringError, SourceError, KeyFileError, OSError) as error:
        _fail(error, FAILED)
    _tell(trace, path, as_json=as_json)


def _check_unmuted(mute: Mute, found: Input) -> None:
    if mute.is_on and found.source.is_live:
        msg = f"the device is muted by {' and '.join(mute.reasons)}; unmute it to listen"
        raise InputError(msg)


def _hear(found: Input, detector: Detector, seconds: float, mute: Mute) -> Trace:
    """Listen until the end, `seconds`, a mute, or Ctrl-C; bars are drawn where there is a terminal."""
    trace = Trace(detector.rules)
    console = Console(stderr=True)
    limit = round(seconds * detector.rules.spec.sample_rate_hz) or sys.maxsize
    with Live(bars(trace), console=console, transient=True, auto_refresh=False) as live:
        drawn_s = 0.0
        try:
            found.source.open()
            while limit > 0 and not (mute.is_on and found.source.is_live):
                samples = found.source.read(0.2)
                if samples is None:
                    continue
                samples = np.clip(np.nan_to_num(samples[:limit], nan=0.0), -1.0, 1.0)
                limit -= len(samples)
                trace.feed(detector.feed(samples))
                if console.is_terminal and time.monotonic() - drawn_s > 1 / _REFRESHES_A_SECOND:
                    live.update(bars(trace), refresh=True)
                    drawn_s = time.monotonic()
        except SourceEndedError as error:
            if str(error) != found.source.name:
                raise
        except SourceError as error:
            if not trace.heard_s:
                raise
            sys.stderr.write(f"{one_line(error)}; explained as far as it was heard\n")
        except KeyboardInterrupt:
            pass
        finally:
            found.source.close()
    trace.feed(detector.flush())
    return trace


def _tell(trace: Trace, path: Path, *, as_json: bool) -> None:
    if as_json:
        nearest = [{**asdict(each), "share": each.share} for each in trace.nearest()]
        events = [asdict(each) for each in trace.events]
        sys.stdout.write(json.dumps({"answer": trace.answer(), "events": events, "nearest": nearest, "page": str(path)}) + "\n")
        return
    for line in trace.answer():
        sys.stdout.write(line + "\n")
    sys.stdout.write(f"timeline: {path}\n")


def _fail(error: Exception, status: int) -> NoReturn:
    sys.stderr.write(f"error: {one_line(error, 1_000)}\n")
    raise typer.Exit(status) from error
