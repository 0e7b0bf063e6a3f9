"""Models that people would otherwise pick, behind one protocol, so that they stand in our tables on the same clips."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from earmark_cli.progress import counted
from earmark_cli.yamnet import PeerError, Yamnet
from earmark_data.audio import read_audio
from earmark_data.labels import TAGGER_LABELS
from earmark_data.manifest import Manifest
from earmark_data.teachers import TEACHERS, Teacher, TeacherError
from earmark_edge.scorer import Scorer
from earmark_edge.window import Windower
from earmark_model.contract import LABELS
from earmark_model.metrics import over_windows

Audio = NDArray[np.float32]
Scores = NDArray[np.float64]

PEERS = ("yamnet", "mn04")
"""What `--peer` takes: YAMNet, and EfficientAT mn04_as by the weights that lie in the corpus (its recorded scores without them)."""

PEER_LABELS: dict[str, tuple[str, ...]] = {
    **TAGGER_LABELS,
    "scream": ("Screaming",),
    "cry": ("Crying, sobbing",),
    "baby_cry": ("Baby cry, infant cry",),
}
"""Model label to the AudioSet names whose largest score a peer is judged by, as the corpus's own figures are; `other` has none."""


TAGGER_FILE = "mn04_as.pt"
logger = logging.getLogger(__name__)

_AT_ONCE = 8
"""Windows that are scored together; more would leave a processor's cache."""


class Listener(Protocol):
    """Anything that hears audio and scores our labels."""

    name: str

    def hear(self, audio: Audio) -> Scores:
        """Scores `[len(LABELS)]` of a whole clip `[samples]` at 16 kHz; NaN for a label that it does not know."""
        ...


class BundleListener:
    """A bundle hears a clip as a device does, window by window; its clip score is `over_windows` of theirs."""

    def __init__(self, scorer: Scorer, name: str = "earmark") -> None:
        self.scorer, self.name = scorer, name

    def hear(self, audio: Audio) -> Scores:
        """See `Listener`."""
        spec = self.scorer.spec
        windower = Windower(spec.window_samples, spec.hop_samples)
        windows = [window.samples for window in windower.feed(audio.astype(np.float32)) + windower.flush()]
        windows = windows or [np.zeros(spec.window_samples, np.float32)]
        parts = [self.scorer.run(np.stack(windows[first : first + _AT_ONCE])).clip for first in range(0, len(windows), _AT_ONCE)]
        return np.asarray(over_windows(np.concatenate(parts)), np.float64)


class YamnetListener:
    """YAMNet, each label by its largest score over the patches of a clip."""

    name = "yamnet"

    def __init__(self, *, threads: int = 1) -> None:
        self.network = Yamnet(threads=threads)

    def hear(self, audio: Audio) -> Scores:
        """See `Listener`."""
        return our_labels(self.network.labels, self.network.run(audio).max(0))


class Mn04Listener:
    """mn04, each label by its largest score over the windows of a clip."""

    name = "mn04"

    def __init__(self, weights: Path) -> None:
        mn04 = importlib.import_module("earmark_cli.mn04")  # loads torch, which the other peers do without
        self.labels, self.network = mn04.LABELS, mn04.Mn04.read(weights)

    def hear(self, audio: Audio) -> Scores:
        """See `Listener`."""
        return our_labels(self.labels, self.network.scores(audio).max(0))


@dataclass(frozen=True)
class Recorded:
    """A tagger's scores of the clean clips, as they lie in `teachers/` beside the manifest: a peer at no cost."""

    teacher: Teacher

    @property
    def name(self) -> str:
        """Such as `mn04 (recorded)`: a table says that the peer did not hear the clips itself."""
        return f"{self.teacher.name} (recorded)"

    @cached_property
    def _labelled(self) -> Scores:
        return our_labels(self.teacher.labels, self.teacher.scores)

    def clip_scores(self, manifest: Manifest) -> Scores:
        """Scores `[clips, len(LABELS)]`, the largest over each clip's windows; `manifest` holds rows of the one it was read for."""
        offsets = self.teacher.offsets
        return np.stack([self._labelled[offsets[row.index] : offsets[row.index + 1]].max(0) for row in manifest])


def yamnet(*, threads: int = 1) -> YamnetListener:
    """YAMNet, live.

    Raises:
        PeerError: the package that brings it is not installed.
    """
    return YamnetListener(threads=threads)


def recorded(name: str, whole: Manifest) -> Recorded:
    """The scores that the corpus of the manifest `whole` (every row, in file order) keeps of a tagger.

    Raises:
        PeerError: there are none of that name, they are of other clips, or a clip has none.
    """
    path = whole.path.parent / "teachers" / f"{name}.npz"
    if name not in TEACHERS or not path.is_file():
        msg = f"{path}: no such file; the recorded scores of {name} lie there beside the manifest of a corpus that has them"
        raise PeerError(msg)
    try:
        teacher = Teacher.read(path, whole)
    except TeacherError as error:
        raise PeerError(str(error)) from error
    if (np.diff(teacher.offsets) < 1).any():
        msg = f"{path}: a clip has no scores; record them again"
        raise PeerError(msg)
    return Recorded(teacher)


def our_labels(names: Sequence[str], scores: NDArray[np.floating]) -> Scores:
    """Scores `[..., AudioSet names]` as `[..., len(LABELS)]`: the largest of the names that mean a label; NaN where there is none."""
    columns = {label: [names.index(name) for name in PEER_LABELS.get(label, ()) if name in names] for label in LABELS}
    empty = np.full(scores.shape[:-1], np.nan)
    parts = [scores[..., columns[label]].max(-1).astype(np.float64) if columns[label] else empty for label in LABELS]
    return np.stack(parts, -1)


def heard(listener: Listener, manifest: Manifest) -> Scores:
    """A listener's scores of whole clips, `[clips, len(LABELS)]`.

    Raises:
        AudioError: a clip cannot be read.
    """
    scores = np.zeros((len(manifest), len(LABELS)))
    with counted(f"{listener.name} scores clips") as progress:
        for position, row in enumerate(manifest):
            scores[position] = listener.hear(read_audio(row.path))
            progress(position + 1, len(manifest))
    return scores


Peer = YamnetListener | Mn04Listener | Recorded


def peer_of(name: str, whole: Manifest) -> Peer:
    """The peer that `--peer` names, for clips of `whole`; mn04 by its recorded scores where its weights are not there.

    Raises:
        PeerError: the peer is unknown, not installed, or the corpus has neither its weights nor its scores.
    """
    if name not in PEERS:
        msg = f"--peer must be one of {', '.join(PEERS)}, got {name!r}"
        raise PeerError(msg)
    if name == "yamnet":
        return yamnet()
    weights = whole.path.parent / "teachers" / TAGGER_FILE
    if weights.is_file():
        return Mn04Listener(weights)
    if not weights.with_name("mn04.npz").is_file():
        msg = f"{weights}: no such file; mn04 is run from these weights, or taken from its recorded scores, mn04.npz, in the same folder"
        raise PeerError(msg)
    logger.warning("%s: no such weights; mn04 is taken from its recorded scores, which know clean clips only", weights)
    return recorded(name, whole)
