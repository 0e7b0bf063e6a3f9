"""Scores of public taggers on the corpus's clips: soft labels to learn from beside the hard ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from earmark_data.labels import TAGGER_LABELS
from earmark_data.manifest import Manifest
from earmark_model.contract import LABELS

TEACHERS = ("yamnet", "mn04")


class TeacherError(ValueError):
    """Teacher scores are missing, or not those of this manifest."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """One tagger's scores: clip `i` (a manifest row's index) owns rows `offsets[i]` to `offsets[i + 1]` of the tables.

    `scores` `[windows, tagger labels]`; `soft` `[windows, len(LABELS)]`, the best-matching names of each of the model's labels.
    """

    name: str
    labels: tuple[str, ...]
    offsets: NDArray[np.int64]
    scores: NDArray[np.float16]
    soft: NDArray[np.float32]
    hop_s: float
    window_s: float

    @classmethod
    def read(cls, path: Path, manifest: Manifest) -> Teacher:
        """Read one `.npz` file.

        Raises:
            TeacherError: it is missing, or its clips are not the manifest's.
        """
        if not path.is_file():
            msg = f"{path}: no such file; train with --no-teachers to learn from the labels alone"
            raise TeacherError(msg)
        with np.load(path) as held:
            known = [str(manifest.path.parent / clip) for clip in held["path"]]
            if known != [str(row.path) for row in manifest]:
                msg = f"{path}: its clips are not those of {manifest.path}, in that order"
                raise TeacherError(msg)
            labels, scores = tuple(map(str, held["labels"])), held["scores"]
            return cls(path.stem, labels, held["offsets"], scores, _soft(labels, scores), float(held["hop_s"]), float(held["window_s"]))

    def windows(self, row: int, start_s: float, stop_s: float) -> slice:
        """The windows of a clip whose middle lies in the span, or the nearest one if none does; empty for an unscored clip."""
        first, last = int(self.offsets[row]), int(self.offsets[row + 1])
        if first == last:
            return slice(first, first)
        low = math.ceil((start_s - self.window_s / 2) / self.hop_s)
        high = math.floor((stop_s - self.window_s / 2) / self.hop_s)
        if high < low:
            low = high = round((start_s + stop_s - self.window_s) / 2 / self.hop_s)
        low, high = (min(max(edge, 0), last - first - 1) for edge in (low, high))
        return slice(first + low, first + high + 1)


class Teachers:
    """All taggers together."""

    def __init__(self, teachers: Sequence[Teacher]) -> None:
        self.teachers = tuple(teachers)
        self.labels = tuple(f"{teacher.name}/{label}" for teacher in teachers for label in teacher.labels)

    @classmethod
    def read(cls, folder: Path, manifest: Manifest) -> Teachers:
        """Read `folder/NAME.npz` for every teacher; `manifest` is the whole one, whose rows they score.

        Raises:
            TeacherError: a file is missing, or its clips are not the manifest's.
        """
        return cls([Teacher.read(folder / f"{name}.npz", manifest) for name in TEACHERS])

    def scores(self, row: int, start_s: float, stop_s: float) -> NDArray[np.float32]:
        """Largest score of every tagger's every label over a span of a clip, `[labels]`."""
        parts = [teacher.scores[teacher.windows(row, start_s, stop_s)] for teacher in self.teachers]
        joined: NDArray[np.float32] = np.concatenate([part.max(0, initial=0) for part in parts]).astype(np.float32)
        return joined

    def soft_target(self, row: int, start_s: float, stop_s: float) -> NDArray[np.float32]:
        """The model's labels as the taggers hear them over a span, the mean over taggers, `[len(LABELS)]`; `other` is 0."""
        parts = [teacher.soft[teacher.windows(row, start_s, stop_s)].max(0, initial=0) for teacher in self.teachers]
        mean: NDArray[np.float32] = np.mean(parts, 0, dtype=np.float32)
        return mean


def _soft(labels: Sequence[str], scores: NDArray[np.float16]) -> NDArray[np.float32]:
    soft = np.zeros((len(scores), len(LABELS)), np.float32)
    for index, name in enumerate(LABELS):
        if columns := [labels.index(label) for label in TAGGER_LABELS.get(name, ()) if label in labels]:
            soft[:, index] = scores[:, columns].max(1)
    return soft
