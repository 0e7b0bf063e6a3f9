"""Places on a picture: ticks, spans, and the lines of the waveform and the score track, as numbers that a template writes down.

Horizontal places are per cent of the width, so that a picture fits any screen while its text keeps its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earmark_edge.event import Event, ScoreTrack
from earmark_model.contract import SENSITIVE
from earmark_review.spectrogram import hz_to_mel

_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300)
_MOST_TICKS = 8
_TICKS_HZ = (0, 250, 500, 1000, 2000, 4000, 8000, 16000)
_LABEL_ROOM = 5.0
"""Ticks nearer than this to the one before, in per cent of the height, are left out."""
WAVE_COLUMNS = 800
TRACK_WIDTH, TRACK_HEIGHT = 1000, 100
_HEARD_AT_ALL = 0.2
_MOST_LINES = 5


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis and what is written there."""

    percent: float
    text: str


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the time axis."""

    start_percent: float
    width_percent: float


@dataclass(frozen=True, slots=True)
class TrackLine:
    """One label's scores as an SVG path in a box of `TRACK_WIDTH` by `TRACK_HEIGHT`, score 1 at the top."""

    label: str
    path: str
    peak: float
    threshold: float | None
    is_flagged: bool

    @property
    def threshold_percent(self) -> float | None:
        """Height of the threshold, from the top."""
        return None if self.threshold is None else 100 * (1 - self.threshold)


def time_ticks(duration_s: float) -> Sequence[Tick]:
    """Round seconds, at most eight of them."""
    step_s = next((step for step in _STEPS_S if duration_s / step < _MOST_TICKS), duration_s / _MOST_TICKS)
    count = int(duration_s / step_s + 1e-9) + 1
    return [Tick(100 * i * step_s / duration_s, f"{i * step_s:.10g}") for i in range(count)]


def frequency_ticks(rate_hz: int) -> Sequence[Tick]:
    """Octaves in hertz, placed on the mel scale from the top of the picture down to 0."""
    top = float(hz_to_mel(rate_hz / 2))
    places = [Tick(100 * (1 - float(hz_to_mel(hz)) / top), f"{hz:g}") for hz in _TICKS_HZ if hz <= rate_hz / 2]
    return [tick for i, tick in enumerate(places) if i == 0 or places[i - 1].percent - tick.percent >= _LABEL_ROOM]


def event_span(event: Event, start_s: float, duration_s: float) -> Span | None:
    """Where the event lies on a clip that begins at `start_s` of the stream; None where it lies outside."""
    onset, offset = (float(np.clip((at_s - start_s) / duration_s, 0, 1)) for at_s in (event.onset_s, event.offset_s))
    return Span(100 * onset, 100 * (offset - onset)) if offset > onset else None


def waveform_path(samples: NDArray[np.float32], duration_s: float, rate_hz: int) -> str:
    """The envelope as an SVG path in a box of `WAVE_COLUMNS` by 2, scaled so that the loudest sample touches the edge."""
    columns = max(2, min(WAVE_COLUMNS, round(WAVE_COLUMNS * len(samples) / rate_hz / duration_s), len(samples)))
    edges = np.linspace(0, len(samples), columns, endpoint=False).astype(int)
    peak = float(np.max(np.abs(samples))) or 1.0
    highs, lows = (ufunc.reduceat(samples, edges) / peak for ufunc in (np.maximum, np.minimum))
    step = WAVE_COLUMNS * len(samples) / rate_hz / duration_s / columns
    top = [f"{(i + 0.5) * step:.1f} {1 - high:.3f}" for i, high in enumerate(highs)]
    bottom = [f"{(i + 0.5) * step:.1f} {1 - low:.3f}" for i, low in enumerate(lows)]
    return f"M{' L'.join([*top, *reversed(bottom)])}Z"


def track_lines(track: ScoreTrack, duration_s: float, flagged: str) -> Sequence[TrackLine]:
    """The flagged label's line first, then the other sensitive ones, then whatever else was heard at all."""
    peaks = {label: max(scores) for label, scores in track.scores.items()}
    shown = [label for label in peaks if label in SENSITIVE or label == flagged or peaks[label] >= _HEARD_AT_ALL]
    shown.sort(key=lambda label: (label != flagged, label not in SENSITIVE, -peaks[label]))
    return [
        TrackLine(
            label, _track_path(track.scores[label], track.hop_s / duration_s), peaks[label], track.thresholds.get(label), label == flagged
        )
        for label in shown[:_MOST_LINES]
    ]


def _track_path(scores: Sequence[float], hop: float) -> str:
    """Through the middle of each hop; `hop` is a fraction of the width."""
    points = [f"{TRACK_WIDTH * (i + 0.5) * hop:.1f} {TRACK_HEIGHT * (1 - score):.1f}" for i, score in enumerate(scores)]
    if len(points) == 1:
        points = [f"{TRACK_WIDTH * at * hop:.1f} {TRACK_HEIGHT * (1 - scores[0]):.1f}" for at in (0, 1)]
    return f"M{' L'.join(points)}"


def peak_dbfs(samples: NDArray[np.float32]) -> float | None:
    """The loudest sample in decibels below full scale; None for silence."""
    peak = float(np.max(np.abs(samples)))
    return 20 * float(np.log10(peak)) if peak else None
