"""What was heard over time and what was decided on it, kept so that it can be explained. Scores and spans; no audio. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from earmark_edge.decide import FLAGGING, Rules
from earmark_edge.detector import Detection, Heard
from earmark_edge.report import clock
from earmark_model.contract import Reason

MOST_WINDOWS = 7_200
"""An hour at a hop of half a second; of a longer stream the last hour is kept."""
_QUIET = 1e-9
_NEAR = 0.5
"""A label that came to so much of its threshold is worth a sentence."""


@dataclass(frozen=True, slots=True)
class Point:
    """One window: its time in seconds, the score of each label, and the decision."""

    onset_s: float
    offset_s: float
    scores: tuple[float, ...]
    reason: Reason
    label: str


@dataclass(frozen=True, slots=True)
class Event:
    """One closed event, without its audio."""

    onset_s: float
    offset_s: float
    label: str
    peak_score: float
    threshold: float
    reason: Reason
    incident: int

    @classmethod
    def of(cls, found: Detection) -> Event:
        """What of a detection may be shown."""
        return cls(found.onset_s, found.offset_s, found.label, found.peak_score, found.threshold, found.reason, found.incident)


@dataclass(frozen=True, slots=True)
class Nearest:
    """How near a label came to its threshold: the best window of the stream."""

    label: str
    score: float
    threshold: float
    lower: float
    at_s: float
    is_routed: bool

    @property
    def share(self) -> float:
        """Score as a part of the threshold."""
        return self.score / max(self.threshold, _QUIET)


@dataclass(slots=True)
class Trace:
    """Fed with what a detector completes; holds at most `MOST_WINDOWS` windows."""

    rules: Rules
    points: deque[Point] = field(default_factory=lambda: deque(maxlen=MOST_WINDOWS))
    events: list[Event] = field(default_factory=list)
    heard_s: float = 0.0

    def feed(self, heard: Heard) -> None:
        """Keep scores and decisions."""
        for window in heard.windows:
            scores = tuple(map(float, window.clip_scores))
            self.points.append(Point(window.onset_s, window.offset_s, scores, window.decision.reason, window.decision.label))
            self.heard_s = max(self.heard_s, window.offset_s)
        self.events += map(Event.of, heard.detections)

    @property
    def routed(self) -> tuple[str, ...]:
        """Labels that can open an event, in the bundle's order."""
        wanted = {*self.rules.spec.sensitive, *self.rules.config.route_also}
        return tuple(label for label in self.rules.spec.labels if label in wanted)

    def nearest(self) -> list[Nearest]:
        """Every label's best window, the routed ones first, the nearest to its threshold first."""
        found = []
        for at, label in enumerate(self.rules.spec.labels if self.points else ()):
            best = max(self.points, key=lambda point: point.scores[at])
            threshold = self.rules.spec.thresholds[label].value
            lower = threshold * self.rules.config.hysteresis_ratio
            found.append(Nearest(label, best.scores[at], threshold, lower, best.onset_s, label in self.routed))
        return sorted(found, key=lambda each: (not each.is_routed, -each.share))

    def answer(self) -> list[str]:
        """Why it fired, or why it did not, in plain sentences."""
        if not self.points:
            return ["Nothing was heard: the input gave no sample."]
        nearest = self.nearest()
        said = [_events(self.events)] if self.events else [_no_event(nearest)]
        fired = {event.label for event in self.events}
        said += [
            _near_miss(each) for each in nearest if each.is_routed and self.events and _NEAR <= each.share < 1 and each.label not in fired
        ]
        said += [_not_routed(each) for each in nearest if not each.is_routed and each.label == "shout" and each.share >= 1]
        if speech := sum(point.reason is Reason.SPEECH_ONLY for point in self.points):
            said.append(f"{speech} of {len(self.points)} windows were speech alone and stay here.")
        if unverified := [label for label in self.routed if self.rules.spec.thresholds[label].guarantee is None]:
            said.append(
                f"The thresholds of {', '.join(unverified)} carry no guarantee: such a sound may be missed more often than it seems."
            )
        return said


def is_flagged(point: Point) -> bool:
    """Whether the window belongs to an event."""
    return point.reason in FLAGGING


def _events(events: list[Event]) -> str:
    incidents = len({event.incident for event in events})
    strongest = max(events, key=lambda event: event.peak_score / max(event.threshold, _QUIET))
    reached = f"{strongest.label} reached {strongest.peak_score:.2f} at a threshold of {strongest.threshold:.2f}"
    many = f"{len(events)} events in {incidents} incidents" if len(events) > 1 else "One event"
    return f"{many}. The clearest, at {clock(strongest.onset_s)}: {reached} ({strongest.reason.value})."


def _no_event(nearest: list[Nearest]) -> str:
    best = nearest[0]
    needed = f"with {best.score:.2f} of the {best.threshold:.2f} that it needs ({best.share:.0%})"
    near = f"{best.label} came nearest, at {clock(best.at_s)}, {needed}"
    return f"It did not fire because no routed label reached its threshold. {near}."


def _near_miss(each: Nearest) -> str:
    needed = f"{each.score:.2f} of the {each.threshold:.2f} that it needs ({each.share:.0%})"
    return f"{each.label} came to {needed}, at {clock(each.at_s)}, and did not fire."


def _not_routed(each: Nearest) -> str:
    heard = f"{each.label} reached {each.score:.2f} at {clock(each.at_s)}, above its threshold of {each.threshold:.2f}"
    return f"{heard}, but {each.label} opens no event here; EARMARK_ROUTE_ALSO={each.label} would route it."
