"""Training examples: clips drawn evenly over classes and sources, cropped where the sound is, mixed, and labelled softly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from earmark_data import augment
from earmark_data.labels import MANIFEST_LABELS, target_vector
from earmark_data.manifest import ClipRow, Manifest, ManifestError
from earmark_data.pcm import PcmStore
from earmark_data.teachers import Teachers
from earmark_model.contract import LABELS, SAMPLE_RATE_HZ

SOFT = [LABELS.index(label) for label in ("shout", "laughter", "speech")]
"""Labels that clips of another class often hold too: their targets come from the teachers where the label does not say."""
SHOUT = LABELS.index("shout")


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """How training examples are drawn. Shares are relative; probabilities in [0, 1]; levels in decibels.

    `source_power` flattens sources inside a class: a source of n clips is drawn in proportion to n ** source_power.
    """

    window_samples: int = 32_000
    shares: dict[str, float] = field(
        default_factory=lambda: {
            "scream": 0.16,
            "cry": 0.06,
            "baby_cry": 0.12,
            "shout": 0.01,
            "laughter": 0.12,
            "speech": 0.19,
            "other_human": 0.13,
            "background": 0.21,
        }
    )
    source_power: float = 0.5
    mix: float = 0.5
    snr_db: tuple[float, float] = (-3.0, 25.0)
    mixup: float = 0.1
    room: float = 0.25
    noise: float = 0.4
    noise_snr_db: tuple[float, float] = (-3.0, 40.0)
    gain_db: tuple[float, float] = (-30.0, 12.0)

    def __post_init__(self) -> None:
        if unknown := set(self.shares) - set(MANIFEST_LABELS):
            msg = f"shares name unknown labels {sorted(unknown)}"
            raise ValueError(msg)
        for name in ("mix", "mixup", "room", "noise"):
            if not 0 <= getattr(self, name) <= 1:
                msg = f"{name} is a probability in [0, 1], got {getattr(self, name)}"
                raise ValueError(msg)
        for name in ("snr_db", "noise_snr_db", "gain_db"):
            low, high = getattr(self, name)
            if low > high:
                msg = f"{name} must be (lowest, highest), got {(low, high)}"
                raise ValueError(msg)


class Example(NamedTuple):
    """`audio` `[samples]`; `target` and `weight` `[labels]`; `teacher` `[teacher_labels]`, empty without teachers."""

    audio: NDArray[np.float32]
    target: NDArray[np.float32]
    weight: NDArray[np.float32]
    teacher: NDArray[np.float32]


class ClipDataset(Dataset[Example]):
    """An endless, seeded stream of examples: example `i` is the same in every run and every worker."""

    def __init__(
        self,
        manifest: Manifest,
        pcm: PcmStore,
        config: SamplingConfig,
        *,
        seed: int,
        teachers: Teachers | None = None,
        rooms: Sequence[NDArray[np.float32]] = (),
    ) -> None:
        self.pcm, self.config, self.seed, self.teachers, self.rooms = pcm, config, seed, teachers, tuple(rooms)
        self.rows: dict[str, dict[str, list[ClipRow]]] = defaultdict(lambda: defaultdict(list))
        for row in manifest:
            self.rows[row.label][row.source].append(row)
        self.rows = {label: dict(sources) for label, sources in self.rows.items()}
        self.labels = [label for label, share in config.shares.items() if share > 0 and label in self.rows]
        if not self.labels:
            msg = f"{manifest.path}: none of the labels to draw ({', '.join(config.shares)}) has a clip"
            raise ManifestError(msg)
        shares = np.array([config.shares[label] for label in self.labels])
        self.shares = shares / shares.sum()

    def __getitem__(self, index: int) -> Example:
        """Example `index`, any non-negative number."""
        rng = np.random.default_rng((self.seed, index))
        example = self._clip(self.labels[rng.choice(len(self.labels), p=self.shares)], rng)
        if rng.random() < self.config.mix:
            example = self._over_another(example, rng)
        elif rng.random() < self.config.mixup:
            other, share = self._clip(self.labels[rng.integers(len(self.labels))], rng), rng.uniform(0.3, 0.7)
            mixed = augment.mixup(example.audio, other.audio, share)
            # Both sounds are there to be heard, so their targets are joined instead of averaged.
            example = _joined(mixed, example, other, 1.0)
        audio = example.audio
        if self.rooms and rng.random() < self.config.room:
            audio = augment.reverberate(audio, self.rooms[rng.integers(len(self.rooms))])
        if rng.random() < self.config.noise:
            floor = augment.coloured_noise(audio.size, rng.uniform(0, 2), rng)
            audio = augment.mix_at_snr(audio, floor, rng.uniform(*self.config.noise_snr_db))
        return example._replace(audio=augment.drawn_gain(audio, self.config.gain_db, rng))

    def crop(self, label: str, rng: np.random.Generator) -> NDArray[np.float32]:
        """A window `[samples]` of some clip of that label, or of the first that the corpus holds."""
        return self._clip(label, rng).audio

    def _over_another(self, example: Example, rng: np.random.Generator) -> Example:
        background = self._clip(rng.choice(["background", "background", "speech", "other_human", "laughter"]), rng)
        snr_db = rng.uniform(*self.config.snr_db)
        audible = float(np.clip((20 - snr_db) / 12, 0, 1))  # how much of the quieter sound's labels still holds
        return _joined(augment.mix_at_snr(example.audio, background.audio, snr_db), example, background, audible)

    def _clip(self, label: str, rng: np.random.Generator) -> Example:
        sources = self.rows.get(label) or self.rows[self.labels[0]]
        counts = np.array([len(rows) for rows in sources.values()], float) ** self.config.source_power
        rows = list(sources.values())[rng.choice(len(sources), p=counts / counts.sum())]
        row = rows[rng.integers(len(rows))]
        start = self._start(row, rng)
        target, weight = self._target(row, start)
        teacher = self._teacher(row, start)
        return Example(self._crop(row, start, rng), target, weight, teacher)

    def _start(self, row: ClipRow, rng: np.random.Generator) -> int:
        """First sample of the crop: from the marked span, or of several draws the one where the teachers hear most of the label."""
        spare = self.pcm.length(row.index) - self.config.window_samples
        if spare <= 0:
            return 0
        if row.span_s is not None:
            return self._start_in_span(row.span_s, spare, rng)
        label = MANIFEST_LABELS[row.label]
        if self.teachers is None or label == "other":
            return int(rng.integers(spare + 1))
        draws = rng.integers(spare + 1, size=3)
        column = LABELS.index(label)
        heard = [self.teachers.soft_target(row.index, *self._span_s(int(start)))[column] for start in draws]
        return int(draws[int(np.argmax(heard))])

    def _start_in_span(self, span_s: tuple[float, float], spare: int, rng: np.random.Generator) -> int:
        """First sample of a crop that holds as much of the span as fits: all of a short one, nothing else of a long one."""
        onset, offset = (round(at_s * SAMPLE_RATE_HZ) for at_s in span_s)
        low, high = sorted((onset, offset - self.config.window_samples))
        low, high = (min(max(edge, 0), spare) for edge in (low, high))
        return int(rng.integers(low, high + 1))

    def _crop(self, row: ClipRow, start: int, rng: np.random.Generator) -> NDArray[np.float32]:
        wanted = self.config.window_samples
        clip = self.pcm.read(row.index, start, wanted)
        if clip.size == wanted:
            return clip
        audio = np.zeros(wanted, np.float32)
        first = int(rng.integers(wanted - clip.size + 1))
        audio[first : first + clip.size] = clip
        return audio

    def _teacher(self, row: ClipRow, start: int) -> NDArray[np.float32]:
        if self.teachers is None:
            return np.zeros(0, np.float32)
        return self.teachers.scores(row.index, *self._span_s(start))

    def _span_s(self, start: int) -> tuple[float, float]:
        return start / SAMPLE_RATE_HZ, (start + self.config.window_samples) / SAMPLE_RATE_HZ

    def _target(self, row: ClipRow, start: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        target = target_vector(row.label)
        weight = np.ones(len(LABELS), np.float32)
        own = LABELS.index(MANIFEST_LABELS[row.label])
        if self.teachers is not None:
            soft = self.teachers.soft_target(row.index, *self._span_s(start))
            for index in SOFT:
                if index != own:
                    target[index] = soft[index]
        unsure = {label.rstrip("?") for label in row.alternative_label.split("/")}
        for label in LABELS:  # "shout/scream?": the collection is unsure, so that label is not held against the network
            if label in unsure and LABELS.index(label) != own:
                weight[LABELS.index(label)] = 0.0
        if row.alternative_label == "shout":  # acted strong anger: as likely shouted as not, and there is little else to learn it from
            target[SHOUT], weight[SHOUT] = max(target[SHOUT], 0.5), 1.0
        return target, weight


def _joined(audio: NDArray[np.float32], first: Example, second: Example, audible: float) -> Example:
    """Both examples' labels over the mixed audio; the second's count in the share that is `audible`."""
    target = np.maximum(first.target, second.target * np.float32(audible))
    teacher = np.maximum(first.teacher, second.teacher * np.float32(audible))
    return Example(audio, target, np.minimum(first.weight, second.weight), teacher)
