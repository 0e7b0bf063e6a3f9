"""What a scan says: a table for people, JSON Lines for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from earmark_edge.detector import Detection
from earmark_edge.oneline import one_line
from earmark_edge.scan import Totals
from earmark_edge.unverified import unverified_warning
from earmark_model.contract import BundleSpec

_PIPE_COLUMNS = 160
"""Width of a table that goes to no terminal, where nothing may be cut."""


class Report(Protocol):
    """Takes what a scan finds as it finds it."""

    def event(self, path: Path, detection: Detection, *, delivery: str | None) -> None:
        """One closed event of the file `path`, and whether it was delivered, where it was to be."""

    def file(self, path: Path, heard_s: float, events: int, error: str | None) -> None:
        """One file is done with, after `heard_s` seconds; `error` says why it was not heard to its end."""

    def summary(self, totals: Totals, spec: BundleSpec, *, is_complete: bool) -> None:
        """The scan is over, or was interrupted."""


class TableReport:
    """On stdout, under the name of each file its events, and a summary at the end."""

    _COLUMNS = (("onset", 10), ("offset", 10), ("label", 8), ("peak score", 10), ("decision", 8), ("reason", 17))
    _NUMBERS = frozenset({"onset", "offset", "peak score"})

    def __init__(self) -> None:
        self._console = Console(width=None if sys.stdout.isatty() else _PIPE_COLUMNS, highlight=False)
        self._has_header = True
        self._table = self._new_table()
        self._path: Path | None = None

    def event(self, path: Path, detection: Detection, *, delivery: str | None) -> None:
        """Keep a row until the file is done."""
        self._path = path
        self._table.add_row(
            clock(detection.onset_s),
            clock(detection.offset_s),
            detection.label,
            f"{detection.peak_score:.2f}",
            f"flagged, {delivery}" if delivery else "flagged",
            detection.reason.value,
        )

    def file(self, path: Path, heard_s: float, events: int, error: str | None) -> None:
        """Print the rows; a file without events gets none, and its error went to stderr."""
        del path, heard_s, events, error
        self._print_rows()

    def summary(self, totals: Totals, spec: BundleSpec, *, is_complete: bool) -> None:
        """Print what the scan amounts to."""
        self._print_rows()
        self._say("" if is_complete else "interrupted; this is what was found until then")
        factor = totals.real_time_factor
        speed = "" if not factor else f", real-time factor {factor:.4f} ({1 / factor:.0f} times faster than real time)"
        part = f" ({totals.flagged_s / totals.heard_s:.2%})" if totals.heard_s else ""
        self._say(f"files    {totals.files}, of which {totals.failed} failed")
        self._say(f"heard    {totals.heard_s:.1f} s{speed}")
        self._say(f"flagged  {totals.flagged_s:.1f} s{part} in {totals.events} events of {totals.incidents} incidents")
        self._say(_also_heard(totals, spec))
        if totals.sent or totals.unsent:
            self._say(f"sent     {totals.sent} events, {totals.unsent} not delivered")
        self._say(unverified_warning(spec))

    def _new_table(self) -> Table:
        table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0), show_header=self._has_header)
        for name, width in self._COLUMNS:
            table.add_column(name, min_width=width, no_wrap=True, justify="right" if name in self._NUMBERS else "left")
        return table

    def _print_rows(self) -> None:
        if self._path is None:
            return
        self._console.print(Text(one_line(self._path), style="bold"), soft_wrap=True)
        self._console.print(Padding(self._table, (0, 0, 0, 2), expand=False))
        self._console.print()
        self._has_header, self._path = False, None
        self._table = self._new_table()

    def _say(self, line: str) -> None:
        if line:
            self._console.print(line, markup=False, soft_wrap=True)


class JsonLinesReport:
    """One JSON object a line on stdout, as it happens; `type` is `event`, `file` or `summary`, and the summary comes last."""

    def event(self, path: Path, detection: Detection, *, delivery: str | None) -> None:
        """Times in seconds from the first sample of the file."""
        _print_json(
            type="event",
            path=str(path),
            onset_s=detection.onset_s,
            offset_s=detection.offset_s,
            label=detection.label,
            peak_score=detection.peak_score,
            threshold=detection.threshold,
            decision="flagged",
            reason=detection.reason.value,
            incident=detection.incident,
            scores=detection.scores,
            delivery=delivery,
        )

    def file(self, path: Path, heard_s: float, events: int, error: str | None) -> None:
        """`error` is null for a file that was heard to its end."""
        _print_json(type="file", path=str(path), heard_s=heard_s, events=events, error=error)

    def summary(self, totals: Totals, spec: BundleSpec, *, is_complete: bool) -> None:
        """`unverified` names the sensitive labels whose thresholds carry no guarantee."""
        fields = {**asdict(totals), "real_time_factor": totals.real_time_factor, "complete": is_complete, "unverified": spec.unverified}
        _print_json(type="summary", **fields)


def clock(seconds: float) -> str:
    """Seconds as hours, minutes and seconds.

    >>> clock(3725.25)
    '1:02:05.25'
    """
    hundredths = round(seconds * 100)
    return f"{hundredths // 360_000}:{hundredths // 6_000 % 60:02d}:{hundredths // 100 % 60:02d}.{hundredths % 100:02d}"


def _also_heard(totals: Totals, spec: BundleSpec) -> str:
    heard = [f"{label} {totals.label_s[label]:.0f} s" for label in spec.labels if label in totals.label_s and label not in spec.sensitive]
    return f"stayed   at home unless it lies in a flagged span: {', '.join(heard)}" if heard else ""


def _print_json(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields, default=_plain) + "\n")
    sys.stdout.flush()


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    msg = f"{type(value).__name__} has no JSON form"
    raise TypeError(msg)
