"""Runs a bundle's graph: windows of audio in, calibrated scores out. The only place that knows onnxruntime."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from earmark_model.contract import GRAPH_FILE, BundleError, BundleSpec, read_bundle

# onnxruntime reads this when it is imported; otherwise it reports to its maker and keeps a file in the home cache.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

Floats = npt.NDArray[np.float32]

INPUT_NAME, HELD_NAME = "audio", "held"
OUTPUT_NAMES, POWER_NAME = ("clip_scores", "frame_scores"), "mel_power"
EMPTY: Floats = np.zeros((1, 0, 0), np.float32)
_QUIET = 3
"""onnxruntime's log level for errors only; its warnings are about its own optimiser."""
_ROUNDING = 1e-6
"""How far above 1 onnxruntime's sigmoid may round in a batch: it gives 1.0000001 for a score that is certain."""


class ScoringError(RuntimeError):
    """The graph gave something that is no score; nothing may be decided on it."""


class Scores(NamedTuple):
    """Calibrated probabilities in the order of the bundle's labels."""

    clip: Floats
    """`[batch, classes]`"""
    frame: Floats
    """`[batch, frames, classes]`"""


class Scorer:
    """A verified bundle, ready to score on `threads` threads.

    Raises:
        BundleError: the bundle is missing, damaged or altered, or its graph is not of the documented form.
    """

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        self.spec: BundleSpec = read_bundle(folder)
        self._session = _load(folder / GRAPH_FILE, self.spec, threads)

    def run(self, audio: Floats) -> Scores:
        """Score `audio`, float32 `[batch, samples]` in [-1, 1] at `spec.sample_rate_hz`, each row at least one window long.

        A row's scores depend on the row alone; in another batch they differ by rounding (below 1e-6), as sums may run in another order.

        Raises:
            ValueError: another shape or type, or shorter than a window.
            ScoringError: the graph fails, a score is not a number in [0, 1], or there is not one for every label.
        """
        self._check(audio)
        return self._checked(Scores(*self._ran(list(OUTPUT_NAMES), {INPUT_NAME: audio})), len(audio))

    def run_on(self, audio: Floats, held: Floats) -> tuple[Scores, Floats]:
        """As `run` of one row, taking over the mel power `held` `[1, mels, held]` of its first frames; the power of the others.

        Only with a bundle that has `spec.mel_hop_samples`. `EMPTY` holds none.

        Raises:
            ValueError, ScoringError: as `run`.
        """
        self._check(audio)
        feed = {INPUT_NAME: audio, HELD_NAME: held} if held.size else {INPUT_NAME: audio}
        *scores, power = self._ran([*OUTPUT_NAMES, POWER_NAME], feed)
        return self._checked(Scores(*scores), len(audio)), power

    def _ran(self, names: list[str], feed: dict[str, Floats]) -> list[Floats]:
        try:
            return list(self._session.run(names, feed))
        except Exception as error:  # onnxruntime's exceptions share no parent but Exception
            msg = f"the graph fails ({str(error).splitlines()[0] if str(error) else type(error).__name__}); the bundle is unfit"
            raise ScoringError(msg) from error

    def _check(self, audio: Floats) -> None:
        if audio.ndim != 2 or audio.dtype != np.float32 or audio.shape[1] < self.spec.window_samples:  # noqa: PLR2004 - batch and samples
            expected = f"float32 [batch, at least {self.spec.window_samples} samples]"
            msg = f"cannot score {audio.dtype} {list(audio.shape)}; expected {expected}"
            raise ValueError(msg)

    def _checked(self, scores: Scores, rows: int) -> Scores:
        for name, part in zip(OUTPUT_NAMES, scores, strict=True):
            if part.shape[0] != rows or part.shape[-1] != len(self.spec.labels):
                msg = f"the graph gave {name} {list(part.shape)} for {rows} windows and {len(self.spec.labels)} labels"
                raise ScoringError(msg)
            # Also false for NaN, which would pass below every threshold.
            highest = part.max(initial=0)
            if not (part.min(initial=0) >= 0 and highest <= 1 + _ROUNDING):
                msg = f"the graph gave {name} outside [0, 1]; the bundle is unfit"
                raise ScoringError(msg)
            if highest > 1:
                np.minimum(part, np.float32(1), out=part)
        return scores


def _load(path: Path, spec: BundleSpec, threads: int) -> Any:
    import onnxruntime  # noqa: PLC0415 - a quarter of a second that a help text need not wait for

    onnxruntime.disable_telemetry_events()
    graph = path.read_bytes()
    if hashlib.sha256(graph).hexdigest() != spec.graph_sha256:  # what runs is what was verified, even if the file was just replaced
        msg = f"{path}: it changed while the bundle was read; copy the bundle again"
        raise BundleError(msg)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # no faster, and a pattern for each length that was heard takes a megabyte
    options.log_severity_level = _QUIET
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no parent but Exception
        msg = f"{path}: onnxruntime cannot load it ({str(error).splitlines()[0]}); export the bundle again, or update onnxruntime"
        raise BundleError(msg) from error
    inputs = [entry.name for part in (session.get_inputs(), session.get_overridable_initializers()) for entry in part]
    outputs = [entry.name for entry in session.get_outputs()]
    expected = ([INPUT_NAME], [*OUTPUT_NAMES]) if spec.mel_hop_samples is None else ([INPUT_NAME, HELD_NAME], [*OUTPUT_NAMES, POWER_NAME])
    if inputs != expected[0] or set(outputs) != set(expected[1]):
        msg = f"{path}: a graph from {inputs} to {outputs}; expected {expected[0]} to {expected[1]}"
        raise BundleError(msg)
    return session
