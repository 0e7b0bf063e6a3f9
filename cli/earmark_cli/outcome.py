"""Truth beside what was flagged: which events were found, which were missed, and what of the talk would have left. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from earmark_data.scene import Scene, TrueEvent, overlap_s, union
from earmark_edge.detector import Detection

COLLAR_S = 0.5
"""A flag this near to a true event belongs to it: rooms echo, and windows are wide."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A detection without its audio: seconds from the start of the recording, and why it was flagged."""

    onset_s: float
    offset_s: float
    label: str
    peak_score: float
    reason: str

    @classmethod
    def of(cls, detection: Detection) -> Flag:
        """What a table needs of `detection`."""
        return cls(detection.onset_s, detection.offset_s, detection.label, detection.peak_score, detection.reason.value)

    @property
    def span(self) -> tuple[float, float]:
        """Onset and offset."""
        return self.onset_s, self.offset_s


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the comparison: a true event with its flags (none: missed), or a flag without one (a false alarm)."""

    event: TrueEvent | None
    flags: tuple[Flag, ...]
    heard: tuple[str, ...]
    """For a false alarm, the labels of what was going on, by name; silence has none."""

    @property
    def onset_s(self) -> float:
        """Where the row stands in time."""
        return self.event.onset_s if self.event else self.flags[0].onset_s

    @property
    def is_found(self) -> bool:
        """Whether a true event was flagged."""
        return self.event is not None and bool(self.flags)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a scan of a scene amounts to. `speech_out_s`: seconds of talk inside flagged spans; nothing else of it would leave."""

    rows: tuple[Row, ...]
    speech_s: float
    speech_out_s: float
    flagged_s: float

    @property
    def found(self) -> int:
        """True events that were flagged."""
        return sum(row.is_found for row in self.rows)

    @property
    def events(self) -> int:
        """True events."""
        return sum(row.event is not None for row in self.rows)

    @property
    def false_alarms(self) -> int:
        """Flags that belong to no true event."""
        return sum(row.event is None for row in self.rows)


def compare(scene: Scene, flags: Sequence[Flag]) -> Outcome:
    """Match flags to the sensitive events of `scene` that they touch, within `COLLAR_S`; rows are in order of time."""
    rows = [Row(event, tuple(flag for flag in flags if _touches(flag, event)), ()) for event in scene.sensitive]
    for flag in flags:
        if not any(_touches(flag, event) for event in scene.sensitive):
            heard = {event.label for event in scene.truth if event.onset_s < flag.offset_s and flag.onset_s < event.offset_s}
            rows.append(Row(None, (flag,), tuple(sorted(heard))))
    spans = union(flag.span for flag in flags)
    speech = scene.spans("speech")
    return Outcome(
        rows=tuple(sorted(rows, key=lambda row: row.onset_s)),
        speech_s=sum(offset - onset for onset, offset in speech),
        speech_out_s=overlap_s(spans, speech),
        flagged_s=sum(offset - onset for onset, offset in spans),
    )


def _touches(flag: Flag, event: TrueEvent) -> bool:
    return flag.onset_s < event.offset_s + COLLAR_S and event.onset_s < flag.offset_s + COLLAR_S
