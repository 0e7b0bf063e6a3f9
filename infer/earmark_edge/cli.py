"""`earmark edge`: run a bundle on recordings."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from earmark_edge.capture import CaptureError, duration_s, files_of
from earmark_edge.consent import ConsentError
from earmark_edge.courier import MutedError
from earmark_edge.decide import DecideConfigError
from earmark_edge.delivery_cli import WayOut, add_delivery_commands, way_out
from earmark_edge.detector import Detection, Detector, Heard
from earmark_edge.doctor.cli import doctor
from earmark_edge.event import WireError
from earmark_edge.explain.cli import explain
from earmark_edge.keys import KeyFileError
from earmark_edge.listen.cli import listen
from earmark_edge.oneline import one_line
from earmark_edge.outbox import Origin, file_origin, pack
from earmark_edge.policy import PolicyError
from earmark_edge.report import JsonLinesReport, Report, TableReport, clock
from earmark_edge.scan import LabelSeconds, Totals, hear
from earmark_edge.scorer import Scorer, ScoringError
from earmark_edge.settings import EdgeSettings, SettingsError, bundle_to_run
from earmark_edge.spool import SpoolError
from earmark_edge.unverified import unverified_warning
from earmark_edge.uplink import AddressError, UplinkError
from earmark_model.contract import BundleError

FAILED, MISUSED, INTERRUPTED = 1, 2, 130

app = typer.Typer(no_args_is_help=True, help="Run a bundle on the device: flag screams and cries.")
add_delivery_commands(app)


app.command()(listen)
app.command()(doctor)
app.command()(explain)


@app.command()
def scan(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Sound files (wav, flac, ogg, opus, mp3) and folders of them.")],
    bundle: Annotated[Path | None, typer.Option(help="A bundle's folder, or the name of one that ships (earmark); EARMARK_BUNDLE.")] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="Print JSON Lines: events and files as they come, then a summary.")] = False,
    send: Annotated[bool, typer.Option("--send", help="Deliver flagged events, sealed, to the review service of `enrol`.")] = False,
) -> None:
    """Find screams and cries in recordings.

    Prints each event with its onset, offset, label, peak score, decision and reason. Only what is flagged is ever sent, and only with
    --send, by an enrolled device (`earmark edge enrol`), under consent (`earmark edge consent give`), sealed to the review service. What
    cannot be delivered now waits in the outbox for `earmark edge send`. Exit status: 0 done, 1 a file or a delivery failed, 2 misused.
    """
    stderr = Console(stderr=True, highlight=False)
    try:
        settings = EdgeSettings.from_environment(os.environ)
        with ExitStack() as stack:
            outgoing = stack.enter_context(way_out(settings, lambda line: _print_line(stderr, line))) if send else None
            detector = Detector(
                Scorer(bundle_to_run(bundle or settings.bundle, settings.state)[0], threads=settings.threads), settings.decide
            )
            report: Report = JsonLinesReport() if json_lines else TableReport()
            run = _Scan(detector, report, stderr, outgoing)
            if json_lines:
                run.tell(unverified_warning(detector.rules.spec))
            status = run.over(paths)
    except (SettingsError, DecideConfigError, AddressError, ConsentError, KeyFileError) as error:
        _print_line(stderr, f"error: {error}")
        raise typer.Exit(MISUSED) from error
    except (BundleError, ScoringError, UplinkError, SpoolError, PolicyError, MutedError) as error:
        _print_line(stderr, f"error: {error}")
        raise typer.Exit(FAILED) from error
    raise typer.Exit(status)


@dataclass(slots=True)
class _Scan:
    """One run over files: what is counted, told and sent on the way."""

    detector: Detector
    report: Report
    stderr: Console
    outgoing: WayOut | None
    totals: Totals = field(default_factory=Totals)
    progress: Progress = field(init=False)
    last_incident: tuple[Path, int] | None = None

    def __post_init__(self) -> None:
        # Redirecting would carry the results, which belong on stdout, to the progress bar's stderr.
        self.progress = Progress(
            *_columns(),
            console=self.stderr,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not self.stderr.is_terminal,
        )

    def over(self, paths: list[Path]) -> int:
        """Scan all, and return the exit status. An interrupt keeps and reports what was found."""
        is_complete = False
        try:
            files = list(self._found(paths))
            with self.progress as progress:
                task = progress.add_task("", total=sum(length for _, length in files))
                for path, length in files:
                    progress.update(task, description=one_line(path.name, 24))
                    for heard_s in self._file(path, length):
                        progress.update(task, advance=heard_s)
            self._deliver_all()
            is_complete = True
        except KeyboardInterrupt:
            self.tell("interrupted")
        self.report.summary(self.totals, self.detector.rules.spec, is_complete=is_complete)
        if not is_complete:
            return INTERRUPTED
        return FAILED if self.totals.failed or self.totals.unsent else 0

    def tell(self, line: str) -> None:
        """Print a line to stderr, above the progress bar."""
        if line:
            _print_line(self.stderr, line)

    def _found(self, paths: list[Path]) -> Iterator[tuple[Path, float]]:
        """Every file to hear, with its length in seconds; those that cannot be heard are told and counted."""
        for given in paths:
            try:
                files = files_of(given)
            except CaptureError as error:
                self.totals.files += 1
                self._failed(given, 0.0, 0, error)
                continue
            for path in files:
                try:
                    length_s = duration_s(path)
                except CaptureError as error:
                    self.totals.files += 1
                    self._failed(path, 0.0, 0, error)
                else:
                    yield path, length_s

    def _file(self, path: Path, length_s: float) -> Iterator[float]:
        """Hear one file; yields the seconds heard, piece by piece."""
        self.totals.files += 1
        seconds = LabelSeconds(self.detector)
        heard_s, detections = 0.0, 0
        try:
            origin = file_origin(path, length_s, self.detector.rules, self.outgoing.consent_id) if self.outgoing else None
            pieces = hear(path, self.detector)
            while piece := self._timed(pieces):
                block_s, heard = piece
                heard_s += block_s
                seconds.add(heard, self.totals.label_s)
                for detection in heard.detections:
                    self._detected(path, detection, detections, origin)
                    detections += 1
                yield block_s
        except (CaptureError, OSError) as error:
            self._failed(path, heard_s, detections, error)
        else:
            with self._bar_hidden():
                self.report.file(path, heard_s, detections, None)
        self.totals.heard_s += heard_s

    def _timed(self, pieces: Iterator[tuple[float, Heard]]) -> tuple[float, Heard] | None:
        began = time.perf_counter()
        piece = next(pieces, None)
        self.totals.scoring_s += time.perf_counter() - began
        return piece

    def _detected(self, path: Path, detection: Detection, seq: int, origin: Origin | None) -> None:
        delivery = self._deliver(path, detection, seq, origin) if origin else None
        with self._bar_hidden():
            self.report.event(path, detection, delivery=delivery)
        self.totals.events += 1
        self.totals.flagged_s += detection.duration_s
        self.totals.incidents += (path, detection.incident) != self.last_incident
        self.last_incident = (path, detection.incident)

    def _deliver(self, path: Path, detection: Detection, seq: int, origin: Origin) -> str:
        """Put one event into the outbox; the outbox is emptied when the scan is over."""
        assert self.outgoing is not None, "nothing has an origin without a way out"
        try:
            self.outgoing.courier.accept(pack(detection, seq, origin, self.detector.rules))
        except (ConsentError, MutedError, PolicyError, SpoolError, WireError) as error:
            self.tell(f"error: {path}: event at {detection.onset_s:.2f} s stays here: {error}")
            self.totals.unsent += 1
            return "not sent"
        return "sealed"

    def _deliver_all(self) -> None:
        if self.outgoing is None:
            return
        done = self.outgoing.courier.deliver(self.outgoing.uplink)
        waiting = self.outgoing.courier.spool.counts().events
        self.totals.sent += done.delivered
        self.totals.unsent += waiting
        if done.trouble:
            self.tell(f"error: {done.trouble}")
        if waiting:
            self.tell(f"{waiting} events wait in the outbox; `earmark edge send` tries again")

    def _failed(self, path: Path, heard_s: float, events: int, error: Exception) -> None:
        self.totals.failed += 1
        self.tell(f"error: {error}" + (f"; heard until {heard_s:.1f} s" if heard_s else ""))
        with self._bar_hidden():
            self.report.file(path, heard_s, events, str(error))

    @contextmanager
    def _bar_hidden(self) -> Iterator[None]:
        """While results are written: on a terminal they share the lines that the bar is drawn on."""
        was_shown = self.progress.live.is_started
        self.progress.stop()
        yield
        if was_shown:
            self.progress.start()


def _print_line(console: Console, line: str) -> None:
    console.print(one_line(line, 1_000), markup=False, soft_wrap=True)


def _columns() -> tuple[ProgressColumn, ...]:
    return (
        TextColumn("{task.description}", markup=False),
        BarColumn(24),
        _HeardColumn(_unbroken()),
        _SpeedColumn(_unbroken()),
        TimeRemainingColumn(),
    )


def _unbroken() -> Column:
    return Column(no_wrap=True)


class _HeardColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Audio heard, of all."""
        return Text(f"{clock(task.completed)[:-3]} of {clock(task.total or 0)[:-3]}")


class _SpeedColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Seconds of audio a second, once there is a speed."""
        return Text("" if task.speed is None else f"{task.speed:.0f}x real time")
