"""What the demo says, section by section: results to stdout, progress and failures to stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from earmark_cli.demo_review import CONSENT_ID, DemoReview
from earmark_cli.outcome import COLLAR_S, Flag, Outcome, Row
from earmark_data.scene import Scene
from earmark_data.suppliers import Supplier
from earmark_edge.oneline import one_line
from earmark_edge.unverified import unverified_warning
from earmark_model.contract import BundleSpec

_WIDTH = 100
_NARROW = frozenset({"time", "from", "to", "score", "outcome"})
_NUMBERS = frozenset({"time", "from", "to", "score"})
_NAMES = {"baby_cry": "baby cry", "cry": "crying", "speech": "talk", "other": "household sound"}


class Storyteller:
    """Prints the story. Every section has a heading, and says what happens and why."""

    def __init__(self) -> None:
        self._stdout = Console(width=None if sys.stdout.isatty() else _WIDTH, highlight=False)
        self._stderr = Console(stderr=True, highlight=False)
        self._sections = 0

    @contextmanager
    def bar(self, what: str, total: float) -> Iterator[Callable[[float], None]]:
        """A progress bar on stderr; yields a function of how much is done."""
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeRemainingColumn(),
        )
        shown = self._stderr.is_terminal
        with Progress(
            *columns, console=self._stderr, transient=True, redirect_stdout=False, redirect_stderr=False, disable=not shown
        ) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)

    def failure(self, error: object) -> None:
        """One line to stderr."""
        self._stderr.print(f"error: {one_line(error, 1_000)}", markup=False, soft_wrap=True)

    def evening(self, length_s: float) -> None:
        """Open the story."""
        self._heading("An evening at home")
        self._say(f"Building {length_s / 60:g} minutes of talk, laughter, household sound, and a few screams and cries at known times.")

    def recorded(self, supplier: Supplier) -> None:
        """The sounds are real."""
        self._say(f"All sounds are recordings: {one_line(supplier.name)}.")

    def synthesised(self, manifest: Path) -> None:
        """The sounds are made, and why."""
        self._say(f"All sounds are made by the project's own synthesiser, because there is no corpus here (no {one_line(manifest)}).")
        self._say("Synthetic voices are plainer than real ones: expect more misses and more false alarms in life.")

    def scene(self, scene: Scene, path: Path, took_s: float) -> None:
        """What was built."""
        talk_s = sum(offset - onset for onset, offset in scene.spans("speech"))
        events = _counted(len(scene.sensitive), "sensitive event")
        self._say(f"Done in {took_s:.1f} s: {talk_s:.0f} s of talk and {events}, to hear in {one_line(path)}.")

    def own_recordings(self, given: Path, count: int) -> None:
        """Open the story of the user's own sound."""
        self._heading("Your recording" if count == 1 else "Your recordings")
        self._say(f"{one_line(given)}: {_counted(count, 'sound file')}. Nothing of it leaves this machine.")

    def listening(self, bundle: Path, spec: BundleSpec) -> None:
        """What listens."""
        self._heading("Listening, as a device would")
        here = bundle.relative_to(Path.cwd()) if bundle.is_relative_to(Path.cwd()) else bundle
        self._say(f"The bundle {one_line(here)} scores windows of {spec.window_s:g} s, every {spec.hop_s:g} s, on this machine alone.")
        self._say(f"It looks for {_listed(spec.sensitive)}.")
        self._say("Sound is held in memory for a minute or two and then forgotten. Only what is flagged is sent on.")
        if warning := unverified_warning(spec):
            self._stdout.print(Text(warning, style="yellow"), soft_wrap=True)

    def heard(self, heard_s: float, took_s: float) -> None:
        """How fast it was."""
        speed = f", {heard_s / took_s:.0f} times faster than real time" if took_s > 0 else ""
        self._say(f"Heard {heard_s:.0f} s of sound in {took_s:.1f} s{speed}.")

    def comparison(self, outcome: Outcome) -> None:
        """Truth beside what was flagged."""
        self._heading("What was there, and what was flagged")
        table = _table("time", "what was there", "flagged", "heard as", "score", "outcome")
        for row in outcome.rows:
            table.add_row(*_cells(row))
        self._stdout.print(Padding(table, (0, 0, 1, 2), expand=False))
        alarms = _counted(outcome.false_alarms, "false alarm")
        self._say(f"Found {outcome.found} of {outcome.events}, with {alarms}. A flag within {COLLAR_S:g} s of an event counts as its own.")

    def privacy(self, outcome: Outcome, length_s: float) -> None:
        """What would have left the home."""
        self._heading("What would have left the device")
        talk, all_of_it = _part(outcome.speech_out_s, outcome.speech_s), _part(outcome.flagged_s, length_s)
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(justify="right")
        table.add_column()
        table.add_row(f"{outcome.speech_s:.1f} s", "of talk in the evening")
        table.add_row(Text(f"{outcome.speech_out_s:.1f} s", style="bold"), f"of that talk inside flagged spans ({talk})")
        table.add_row(f"{outcome.flagged_s:.1f} s", f"flagged in all, of {length_s:.0f} s ({all_of_it}); the rest stays at home")
        self._stdout.print(Padding(table, (0, 0, 0, 2), expand=False))

    def flags(self, path: Path, flags: Sequence[Flag]) -> None:
        """What was flagged in one of the user's files."""
        if not flags:
            self._say(f"{one_line(path)}: nothing was flagged.")
            return
        self._stdout.print(Text(one_line(path), style="bold"), soft_wrap=True)
        table = _table("from", "to", "heard as", "score", "reason")
        for flag in flags:
            table.add_row(_clock(flag.onset_s), _clock(flag.offset_s), _named(flag.label), f"{flag.peak_score:.2f}", flag.reason)
        self._stdout.print(Padding(table, (0, 0, 0, 2), expand=False))

    def own_totals(self, heard_s: float, flagged_s: float, events: int, failed: int) -> None:
        """What the user's recordings amount to."""
        self._heading("What would have left the device")
        self._say(
            f"{flagged_s:.1f} s of {heard_s:.1f} s ({_part(flagged_s, heard_s)}), in {_counted(events, 'event')}; the rest stays at home."
        )
        if failed:
            self._say(f"{_counted(failed, 'file')} could not be heard.")

    def delivered(self, delivered: int, flagged: int, seconds: float) -> None:
        """Where the flagged events went."""
        self._heading("To a reviewer")
        self._say(f"{delivered} of {_counted(flagged, 'flagged event')} went to a review server on this machine,")
        self._say(f"under the consent record {CONSENT_ID!r}. Without one, nothing is sent. The demo took {seconds:.1f} s.")

    def sign_in(self, review: DemoReview) -> None:
        """How to look at them."""
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        for name, value in (("address", review.url), ("user", review.user), ("password", review.password)):
            table.add_row(name, Text(value, style="bold"))
        self._stdout.print(Padding(table, (1, 0, 1, 2), expand=False))
        self._say("Open the address and judge what was flagged. Ctrl-C ends the server and deletes what it holds.")

    def goodbye(self, *, is_asked: bool) -> None:
        """The end: `is_asked` where nobody was to look at the events."""
        hint = " Run it without --once (DEMO_ONCE) to look at the events." if is_asked else ""
        self._say(f"The server has stopped, and what it held is deleted.{hint}")

    def _heading(self, title: str) -> None:
        self._sections += 1
        self._stdout.print(Text(f"\n{self._sections}  {title}", style="bold cyan"))

    def _say(self, line: str) -> None:
        self._stdout.print(line, markup=False, soft_wrap=True)


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(
            name, no_wrap=name in {"time", "score", "outcome", "from", "to"}, justify="right" if name in {"time", "score"} else "left"
        )
    return table


def _cells(row: Row) -> tuple[str | Text, ...]:
    spans = ", ".join(f"{_clock(flag.onset_s)}-{_clock(flag.offset_s)}" for flag in row.flags) or "-"
    labels = ", ".join(dict.fromkeys(_named(flag.label) for flag in row.flags)) or "-"
    score = f"{max(flag.peak_score for flag in row.flags):.2f}" if row.flags else "-"
    if row.event is None:
        what = f"(only {' and '.join(map(_named, row.heard))})" if row.heard else "(nothing)"
        return _clock(row.onset_s), what, spans, labels, score, Text("! false alarm", style="yellow")
    what = f"{_named(row.event.label)}, {row.event.offset_s - row.event.onset_s:.1f} s"
    verdict = Text("+ found", style="green") if row.is_found else Text("x missed", style="bold red")
    return _clock(row.onset_s), what, spans, labels, score, verdict


def _named(label: str) -> str:
    return _NAMES.get(label, label)


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(map(_named, labels))


def _clock(seconds: float) -> str:
    """Minutes and seconds to a tenth, as 9:58.3; hours only where there are any."""
    tenths = round(seconds * 10)
    hours, rest = divmod(tenths, 36_000)
    shown = f"{rest // 600:02d}" if hours else f"{rest // 600}"
    return f"{f'{hours}:' if hours else ''}{shown}:{rest // 10 % 60:02d}.{rest % 10}"


def _counted(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _part(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "none"
