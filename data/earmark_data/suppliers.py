"""Where the sounds of a scene come from: the test split of a corpus, or the synthesiser."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from earmark_data import synth
from earmark_data.audio import read_audio
from earmark_data.labels import MANIFEST_LABELS
from earmark_data.manifest import ClipRow, Manifest
from earmark_data.room import active, unsteadiness_db
from earmark_data.synth.contour import SAMPLE_RATE_HZ

Samples = npt.NDArray[np.float32]
Utter = Callable[[np.random.Generator], Samples]

LONGEST_CLIP_S = 12.0
SHORTEST_UTTERANCE_S = 1.5
"""Shorter clips of speech are single commands, of which no conversation is made."""
_BED_CANDIDATES = 24
_CROSSFADE_S = 1.0


class SceneError(ValueError):
    """A scene cannot be made of what there is; the message says what is missing."""


class Supplier(Protocol):
    """Gives sounds of 16 kHz, mono, without silence at their ends. Labels are the model's."""

    @property
    def name(self) -> str:
        """Where the sounds come from, for people: "the synthesiser"."""

    @property
    def labels(self) -> frozenset[str]:
        """What `clip` can give."""

    def clip(self, rng: np.random.Generator, label: str) -> Samples:
        """A sound of this label, of 0.3 to 12 s."""

    def speaker(self, rng: np.random.Generator) -> Utter:
        """Somebody; each call of the result is something that this person says."""

    def bed(self, rng: np.random.Generator, duration_s: float) -> Samples:
        """The steady sound of the place, `[duration_s * 16000]`."""


_DURATIONS_S = {"scream": (1.2, 4), "cry": (4, 8), "baby_cry": (4, 9), "laughter": (1.5, 3.5), "other": (2, 8)}
_VOICES = {"scream": synth.scream, "cry": synth.cry, "baby_cry": synth.baby_cry, "laughter": synth.laughter}
_HOUSEHOLD = (
    synth.dishes,
    synth.dog_bark,
    synth.door_knock,
    synth.footsteps,
    synth.kettle,
    synth.running_water,
    synth.television_music,
)
_HUM_S = 20.0


class SynthesisedClips:
    """Everything from `earmark_data.synth`."""

    name = "the synthesiser"

    @property
    def labels(self) -> frozenset[str]:
        """All but shout, which nobody has to hear here."""
        return frozenset({*_DURATIONS_S, "speech"})

    def clip(self, rng: np.random.Generator, label: str) -> Samples:
        """A fresh sound."""
        if label == "speech":
            return self.speaker(rng)(rng)
        make = _VOICES.get(label) or _HOUSEHOLD[rng.integers(len(_HOUSEHOLD))]
        return active(make(rng, rng.uniform(*_DURATIONS_S[label])))

    def speaker(self, rng: np.random.Generator) -> Utter:
        """A man, a woman or a child who babbles for 1.5 to 5 s."""
        person = synth.Speaker.draw(rng)
        return lambda utterance_rng: active(synth.babble(utterance_rng, utterance_rng.uniform(SHORTEST_UTTERANCE_S, 5), person))

    def bed(self, rng: np.random.Generator, duration_s: float) -> Samples:
        """A refrigerator's hum."""
        return repeated(synth.fan(rng, min(duration_s, _HUM_S)), round(duration_s * SAMPLE_RATE_HZ))


class CorpusClips:
    """Clips of one split of a corpus; nothing is heard twice before everything of its label was heard once.

    Raises:
        SceneError: the split holds no speech, or nothing else.
    """

    def __init__(self, manifest: Manifest, split: str = "test") -> None:
        self.name = f"the {split} split of {manifest.path}"
        self._rows: dict[str, list[ClipRow]] = defaultdict(list)
        for row in manifest.select(splits=(split,)):
            self._rows[MANIFEST_LABELS[row.label]].append(row)
        if not {"speech", "other"} <= set(self._rows):
            msg = f"{manifest.path}: the {split} split has clips of {', '.join(sorted(self._rows))}; a scene needs speech and background"
            raise SceneError(msg)
        self._speakers = _by_source_and_group(self._rows["speech"])
        self._background = [row for row in self._rows["other"] if row.label == "background"] or self._rows["other"]
        self._unheard: dict[str, list[ClipRow]] = {}

    @property
    def labels(self) -> frozenset[str]:
        """What the split holds."""
        return frozenset(self._rows)

    def clip(self, rng: np.random.Generator, label: str) -> Samples:
        """The next clip of a random order, at most `LONGEST_CLIP_S` of it: the loudest part, since labels of long clips are weak."""
        if not self._unheard.get(label):
            self._unheard[label] = [self._rows[label][index] for index in rng.permutation(len(self._rows[label]))]
        return self._read(self._unheard[label].pop(), label)

    def speaker(self, rng: np.random.Generator) -> Utter:
        """One group of speech clips: sources are equally likely, however many clips they have."""
        sources = list(self._speakers)
        groups = list(self._speakers[sources[rng.integers(len(sources))]].values())
        clips = groups[rng.integers(len(groups))]
        return lambda utterance_rng: self._read(clips[utterance_rng.integers(len(clips))], "speech")

    def bed(self, rng: np.random.Generator, duration_s: float) -> Samples:
        """The steadiest of some background clips, over and over, with crossfades."""
        count = min(_BED_CANDIDATES, len(self._background))
        candidates = [read_audio(self._background[index].path) for index in rng.choice(len(self._background), count, replace=False)]
        audible = [clip for clip in candidates if active(clip).size > SAMPLE_RATE_HZ]
        if not audible:
            msg = f"{self.name}: none of {count} background clips is longer than a second"
            raise SceneError(msg)
        return repeated(min(audible, key=unsteadiness_db), round(duration_s * SAMPLE_RATE_HZ))

    def _read(self, row: ClipRow, label: str) -> Samples:
        sound = active(read_audio(row.path))
        if not sound.size:
            msg = f"{row.path}: a clip of {label} that is silent"
            raise SceneError(msg)
        return loudest(sound, round(LONGEST_CLIP_S * SAMPLE_RATE_HZ))


def repeated(sound: Samples, samples: int) -> Samples:
    """`sound` over and over, each repetition crossfaded with the last, cut to `samples`."""
    fade = min(len(sound) // 2, round(_CROSSFADE_S * SAMPLE_RATE_HZ))
    ramp = np.sin(np.linspace(0, np.pi / 2, fade, dtype=np.float32))  # equal power: the ends are unrelated
    piece = sound.copy()
    piece[:fade] *= ramp
    piece[len(piece) - fade :] *= ramp[::-1]
    step = len(piece) - fade
    bed = np.zeros(samples + step + len(piece), np.float32)
    for start in range(0, samples + step, step):
        bed[start : start + len(piece)] += piece
    return bed[step : step + samples]


def loudest(sound: Samples, samples: int) -> Samples:
    """The stretch of at most `samples` with the most energy."""
    if len(sound) <= samples:
        return sound
    energy = np.concatenate([[0.0], np.cumsum(sound.astype(np.float64) ** 2)])
    start = int(np.argmax(energy[samples:] - energy[:-samples]))
    return sound[start : start + samples]


def _by_source_and_group(rows: list[ClipRow]) -> dict[str, dict[str, list[ClipRow]]]:
    long_enough = [row for row in rows if row.duration_s >= SHORTEST_UTTERANCE_S] or rows
    speakers: dict[str, dict[str, list[ClipRow]]] = defaultdict(lambda: defaultdict(list))
    for row in long_enough:
        speakers[row.source][row.group].append(row)
    return speakers
