"""An evening at home, composed: a bed of sound, talk, laughter and chores, and now and then a scream or a cry at a known time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from earmark_data.room import at_level, impulse_response, reverberated
from earmark_data.suppliers import SceneError, Supplier, loudest
from earmark_data.synth.contour import SAMPLE_RATE_HZ
from earmark_model.contract import SENSITIVE

Samples = npt.NDArray[np.float32]

SHORTEST_S = 20.0
LEVELS_DBFS = {
    "speech": (-30.0, -24.0),
    "laughter": (-28.0, -22.0),
    "other": (-42.0, -30.0),
    "cry": (-30.0, -22.0),
    "baby_cry": (-24.0, -18.0),
    "scream": (-20.0, -14.0),
}
"""Active RMS at the microphone: talk as in a quiet home, a scream some 10 dB above."""
BED_DBFS = -52.0
_TALK_SHARE, _EVENT_SHARE, _LAUGHTER_SHARE = 0.46, 0.16, 0.08
_CHORES_A_MINUTE = 2
_POSITIONS = 5


@dataclass(frozen=True, slots=True)
class TrueEvent:
    """Something that was placed in the scene, from its first to its last sample, without the room's echo."""

    label: str
    onset_s: float
    offset_s: float


@dataclass(frozen=True, slots=True)
class Scene:
    """`audio`: float32 `[samples]`, 16 kHz, mono, in [-1, 1]. `truth`: what was placed, by onset. `supplier`: where the sounds are from."""

    audio: Samples
    truth: tuple[TrueEvent, ...]
    supplier: str

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.audio) / SAMPLE_RATE_HZ

    @property
    def sensitive(self) -> tuple[TrueEvent, ...]:
        """The screams and cries."""
        return tuple(event for event in self.truth if event.label in SENSITIVE)

    def spans(self, label: str) -> list[tuple[float, float]]:
        """Where `label` is heard, in seconds; overlapping events are joined."""
        return union((event.onset_s, event.offset_s) for event in self.truth if event.label == label)


def compose(supplier: Supplier, seed: int, duration_s: float = 600.0, *, progress: Callable[[float], None] | None = None) -> Scene:
    """Build a scene; the same supplier, seed and duration give the same samples.

    Every minute holds about 28 s of talk between people who take turns, some laughter, one sensitive event, two chores that may sound
    under the talk, and gaps. All are heard in one room, from several places, over the supplier's bed. `progress` is called with the
    seconds composed so far.

    Raises:
        SceneError: `duration_s` is under 20 s, or the supplier has no sensitive sound.
    """
    if not SHORTEST_S <= duration_s < float("inf"):
        msg = f"a scene of {duration_s:g} s cannot hold an evening; expected {SHORTEST_S:g} s or more"
        raise SceneError(msg)
    rng = np.random.default_rng(seed)
    minutes = max(1, round(duration_s / 60))
    part_s = duration_s / minutes
    stage = _Stage(rng, duration_s)
    for index, kind in enumerate(_kinds(supplier, minutes, rng)):
        _play_voices(stage, supplier, kind, index * part_s, part_s)
        _play_chores(stage, supplier, index * part_s, part_s)
        if progress is not None:
            progress((index + 1) * part_s)
    stage.audio += at_level(supplier.bed(rng, duration_s), BED_DBFS)[: len(stage.audio)]
    peak = float(np.abs(stage.audio).max())
    audio = stage.audio * np.float32(min(1.0, 0.99 / peak)) if peak > 0 else stage.audio
    return Scene(audio, tuple(sorted(stage.truth, key=lambda event: (event.onset_s, event.label))), supplier.name)


def union(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans in order, overlapping ones joined.

    >>> union([(3, 4), (0, 1), (0.5, 2)])
    [(0, 2), (3, 4)]
    """
    joined: list[tuple[float, float]] = []
    for onset, offset in sorted(spans):
        if joined and onset <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], offset))
        else:
            joined.append((onset, offset))
    return joined


def overlap_s(one: Sequence[tuple[float, float]], other: Sequence[tuple[float, float]]) -> float:
    """Seconds that lie in both sets of spans; none counts twice.

    >>> overlap_s([(0, 2), (3, 5)], [(1, 4)])
    2
    """
    return sum(max(0, min(b, d) - max(a, c)) for a, b in union(one) for c, d in union(other))


@dataclass(slots=True)
class _Stage:
    """The room while it is played in."""

    rng: np.random.Generator
    duration_s: float
    audio: Samples = field(init=False)
    truth: list[TrueEvent] = field(default_factory=list)
    positions: list[Samples] = field(init=False)

    def __post_init__(self) -> None:
        self.audio = np.zeros(round(self.duration_s * SAMPLE_RATE_HZ), np.float32)
        decay_s = self.rng.uniform(0.25, 0.5)
        self.positions = [impulse_response(self.rng, decay_s, self.rng.uniform(-10, -2)) for _ in range(_POSITIONS)]

    def play(self, sound: Samples, label: str, start_s: float, position: int | None = None) -> None:
        """Place `sound` at `start_s` (before the end) and write it down."""
        level = at_level(sound, self.rng.uniform(*LEVELS_DBFS[label]))
        heard = reverberated(level, self.positions[self.rng.integers(_POSITIONS) if position is None else position])
        start = round(start_s * SAMPLE_RATE_HZ)
        stop = min(len(self.audio), start + len(heard))
        self.audio[start:stop] += heard[: stop - start]
        offset_s = min(self.duration_s, (start + len(sound)) / SAMPLE_RATE_HZ)
        self.truth.append(TrueEvent(label, start / SAMPLE_RATE_HZ, offset_s))


def _kinds(supplier: Supplier, minutes: int, rng: np.random.Generator) -> list[str]:
    """One sensitive label for each minute, as evenly as can be, in random order."""
    there = [label for label in SENSITIVE if label in supplier.labels]
    if not there:
        msg = f"{supplier.name} has no clip of {', '.join(SENSITIVE)}, so there is nothing to find"
        raise SceneError(msg)
    kinds = ([there[index] for index in rng.permutation(len(there))] * minutes)[:minutes]
    return [kinds[index] for index in rng.permutation(minutes)]


def _play_voices(stage: _Stage, supplier: Supplier, kind: str, start_s: float, part_s: float) -> None:
    """Talk, laughter and one sensitive event, one after the other, with random gaps that fill the part."""
    rng = stage.rng
    moments = [_talk(rng, supplier, share * _TALK_SHARE * part_s) for share in rng.dirichlet((8, 8, 8))]
    if "laughter" in supplier.labels:
        moments.append([("laugh", "laughter", _bout(rng, supplier, "laughter", _LAUGHTER_SHARE * part_s))])
    order = [moments[index] for index in rng.permutation(len(moments))]
    event = [("event", kind, _bout(rng, supplier, kind, _EVENT_SHARE * part_s))]
    order.insert(int(rng.integers(1, len(order))), event)  # never first or last, so that two events never touch
    pauses = [[rng.uniform(0.15, 0.6) for _ in moment] for moment in order]
    used_s = sum(len(sound) / SAMPLE_RATE_HZ for moment in order for _, _, sound in moment) + sum(map(sum, pauses))
    gaps_s = rng.dirichlet(np.full(len(order) + 1, 3.0)) * max(0.0, part_s - used_s)
    at_s = start_s
    for moment, breaks_s, gap_s in zip(order, pauses, gaps_s, strict=False):
        at_s += gap_s
        seats = dict(zip(sorted({who for who, _, _ in moment}), rng.permutation(_POSITIONS), strict=False))
        for (who, label, sound), break_s in zip(moment, breaks_s, strict=True):
            stage.play(sound, label, at_s, int(seats[who]))
            at_s += len(sound) / SAMPLE_RATE_HZ + break_s


def _talk(rng: np.random.Generator, supplier: Supplier, about_s: float) -> list[tuple[str, str, Samples]]:
    """Two people who take turns for `about_s`, as (who, label, sound)."""
    people = {"one": supplier.speaker(rng), "another": supplier.speaker(rng)}
    said: list[tuple[str, str, Samples]] = []
    left = round(about_s * SAMPLE_RATE_HZ)
    while left > SAMPLE_RATE_HZ // 2:
        who = list(people)[len(said) % 2]
        sound = loudest(people[who](rng), left)
        said.append((who, "speech", sound))
        left -= len(sound)
    return said


def _bout(rng: np.random.Generator, supplier: Supplier, label: str, longest_s: float) -> Samples:
    """Clips of one label in a row until there are 3 s, at most `longest_s`."""
    sound = supplier.clip(rng, label)
    while len(sound) < min(3.0, longest_s) * SAMPLE_RATE_HZ:
        pause = np.zeros(round(rng.uniform(0.1, 0.4) * SAMPLE_RATE_HZ), np.float32)
        sound = np.concatenate([sound, pause, supplier.clip(rng, label)])
    return loudest(sound, round(longest_s * SAMPLE_RATE_HZ))


def _play_chores(stage: _Stage, supplier: Supplier, start_s: float, part_s: float) -> None:
    """Household sounds, under whatever is said."""
    for _ in range(max(1, round(_CHORES_A_MINUTE * part_s / 60))):
        sound = supplier.clip(stage.rng, "other")
        latest_s = max(0.0, part_s - len(sound) / SAMPLE_RATE_HZ)
        stage.play(sound, "other", start_s + stage.rng.uniform(0, latest_s))
