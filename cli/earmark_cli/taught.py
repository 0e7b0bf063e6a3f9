"""Examples that a tagger, YAMNet or a bundle hears once, kept as numbers: what a network is taught by, and what heads are learned from."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from earmark_cli.progress import counted
from earmark_cli.yamnet import PeerError, Yamnet
from earmark_data.dataset import ClipDataset, Example
from earmark_data.degraded import Again
from earmark_edge.scorer import Scorer
from earmark_model.checkpoint import CheckpointError, replace_file
from earmark_model.heads import Heard
from earmark_model.network import Tagger

TAUGHT_BY = "yamnet/"
PIECE = 4_000
"""Examples in one file: what an interruption costs at most."""


Source = Dataset[Example] | Dataset[Again]


class Taught(Dataset[Example]):
    """A `ClipDataset` whose `teacher` is what YAMNet says of the very sound.

    Raises:
        ValueError: YAMNet has no such class.
    """

    def __init__(self, examples: ClipDataset, classes: list[str]) -> None:
        known = Yamnet().labels
        if unknown := sorted(set(classes) - set(known)):
            msg = f"YAMNet knows no class {', '.join(unknown)}"
            raise ValueError(msg)
        self.examples, self.columns = examples, [known.index(name) for name in classes]
        self._yamnet: Yamnet | None = None  # made in each worker: a session does not travel between processes

    def __getitem__(self, index: int) -> Example:
        """Example `index`, any non-negative number."""
        if self._yamnet is None:
            self._yamnet = Yamnet()
        example = self.examples[index]
        scores: NDArray[np.float32] = self._yamnet.run(example.audio).max(0)[self.columns]
        return example._replace(teacher=scores)


def taught_by_yamnet(examples: ClipDataset, classes: list[str]) -> Taught:
    """The examples with what YAMNet says of each.

    Raises:
        PeerError: YAMNet is not installed.
    """
    try:
        return Taught(examples, classes)
    except PeerError as error:
        msg = f"--size taught is taught by YAMNet, run live: {error}"
        raise PeerError(msg) from error


class Followed(Dataset[Example]):
    """A `ClipDataset` whose `teacher` is the labels' scores that a verified bundle gives the very sound, as on a device."""

    def __init__(self, examples: ClipDataset, bundle: Path) -> None:
        self.examples, self.bundle = examples, bundle
        self._scorer: Scorer | None = None  # made in each worker: a session does not travel between processes

    def __getitem__(self, index: int) -> Example:
        """Example `index`, any non-negative number."""
        if self._scorer is None:
            self._scorer = Scorer(self.bundle)
        example = self.examples[index]
        return example._replace(teacher=self._scorer.run(example.audio[None]).clip[0])


def hear(tagger: Tagger | None, source: Source, count: int, *, folder: Path, workers: int) -> Heard:
    """The first `count` examples as the tagger hears them, without one with no embedding.

    Each piece is kept in `folder`, so that an interrupted run goes on.

    Raises:
        CheckpointError: a kept piece is damaged, or of another run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pieces = []
    with counted("hearing examples") as progress:
        for first in range(0, count, PIECE):
            path, size = folder / f"{first:07d}.npz", min(PIECE, count - first)
            if not path.exists():
                _keep(path, _piece(tagger, source, range(first, first + size), workers))
            pieces.append(_read(path, size))
            progress(first + size, count)
    return Heard(*(torch.from_numpy(np.concatenate(parts)).float() for parts in zip(*pieces, strict=True)))


def _piece(tagger: Tagger | None, source: Source, numbers: range, workers: int) -> Heard:
    parts = list(_batches(tagger, source, numbers, workers))
    return Heard(*(torch.cat(each) for each in zip(*parts, strict=True)))


def _batches(tagger: Tagger | None, source: Source, numbers: range, workers: int) -> Iterator[Heard]:
    loader: DataLoader[Any] = DataLoader(Subset(source, numbers), batch_size=8, num_workers=workers)
    if tagger is not None:
        tagger.eval()
    with torch.inference_mode():
        for batch in loader:
            yield Heard(_embedding(tagger, batch.audio), batch.target, batch.weight, batch.teacher)


def _embedding(tagger: Tagger | None, audio: Tensor) -> Tensor:
    if tagger is None:
        return torch.zeros(len(audio), 0)
    return tagger.network.embedding(tagger.frontend(audio))


def _keep(path: Path, heard: Heard) -> None:
    """Write a piece whole or not at all, in half precision: numbers from which no sound can be made."""
    image = io.BytesIO()
    np.savez(image, **{name: part.half().numpy() for name, part in heard._asdict().items()})
    replace_file(path, image.getbuffer())


def _read(path: Path, size: int) -> list[NDArray[np.float16]]:
    try:
        with path.open("rb") as file, np.load(file) as held:
            parts = [held[name] for name in Heard._fields]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        msg = f"{path}: damaged ({type(error).__name__}); remove it, and --resume hears those examples again"
        raise CheckpointError(msg) from error
    if any(len(part) != size for part in parts):
        msg = f"{path}: of another run; remove the folder it lies in, or choose another --out"
        raise CheckpointError(msg)
    return parts
