"""The same example again, as another room, device and noise make of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from earmark_data import augment
from earmark_data.dataset import ClipDataset, SamplingConfig

CLEAN = SamplingConfig(mix=0.3, snr_db=(3.0, 25.0), room=0.0, noise=0.0, gain_db=(-15.0, 12.0))
"""Examples as recorded, some over another sound, but nothing that hides them."""


@dataclass(frozen=True, slots=True)
class DegradedConfig:
    """How a clean example is degraded. Probabilities in [0, 1]; levels in decibels; `voices` talk at once in babble."""

    plain: float = 0.2
    room: float = 0.3
    noise: float = 0.65
    noise_snr_db: tuple[float, float] = (-5.0, 25.0)
    babble: float = 0.15
    babble_snr_db: tuple[float, float] = (0.0, 20.0)
    voices: tuple[int, int] = (2, 5)
    far: float = 0.3
    gain_db: tuple[float, float] = (-15.0, 12.0)
    far_gain_db: tuple[float, float] = (-40.0, 12.0)


class Again(NamedTuple):
    """`audio` `[samples]`, degraded; the clean example's `target`, `weight` `[labels]`, `teacher` `[taught]` and `clean` `[embedding]`."""

    audio: NDArray[np.float32]
    target: NDArray[np.float32]
    weight: NDArray[np.float32]
    teacher: NDArray[np.float32]
    clean: NDArray[np.float32]


class Degraded(Dataset[Again]):
    """An endless, seeded stream: example `i` is clean example `i % count`, degraded by chances of its own.

    `told` holds what was noted of each clean example: the parts of `Again` after `audio`, each `[count, ...]`.
    """

    def __init__(
        self, examples: ClipDataset, told: Sequence[NDArray[np.float32]], *, seed: int, config: DegradedConfig | None = None
    ) -> None:
        self.examples, self.told, self.seed, self.config = examples, tuple(told), seed, config or DegradedConfig()
        self.count = len(self.told[0])

    def __getitem__(self, index: int) -> Again:
        """Example `index`, any non-negative number."""
        rng, number = np.random.default_rng((self.seed, index)), index % self.count
        audio = self.examples[number].audio
        if rng.random() >= self.config.plain:
            audio = self._degrade(audio, rng)
        return Again(audio, *(part[number] for part in self.told))

    def _degrade(self, audio: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        config, rooms = self.config, self.examples.rooms
        if rooms and rng.random() < config.room:
            audio = augment.reverberate(audio, rooms[rng.integers(len(rooms))])
        if rng.random() < config.noise:
            noise = augment.coloured_noise(audio.size, rng.uniform(0, 2), rng)
            audio = augment.mix_at_snr(audio, noise, rng.uniform(*config.noise_snr_db))
        if rng.random() < config.babble:
            voices = [self.examples.crop("speech", rng) for _ in range(rng.integers(config.voices[0], config.voices[1] + 1))]
            audio = augment.mix_at_snr(audio, np.sum(voices, 0, dtype=np.float32), rng.uniform(*config.babble_snr_db))
        return augment.drawn_gain(audio, config.far_gain_db if rng.random() < config.far else config.gain_db, rng)
