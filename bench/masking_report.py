"""The table and the curve of `bench.masking`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from earmark_cli.bench_report import processor

LEAST_WER, MOST_STOI, MOST_LOST = 0.95, 0.25, 0.03


@dataclass(frozen=True, slots=True)
class Heard:
    """Word error rate, words right of all, and the mean short-time objective intelligibility (Taal et al., 2011)."""

    wer: float
    right: int
    words: int
    stoi: float


@dataclass(frozen=True, slots=True)
class Recalls:
    """Of so many clips, how many were flagged before and after masking: by the bundle, by YAMNet."""

    clips: int
    before: NDArray[np.int64]
    after: NDArray[np.int64]

    @classmethod
    def over(cls, parts: Sequence[Recalls]) -> Recalls:
        """All together."""
        return cls(sum(p.clips for p in parts), np.sum([p.before for p in parts], axis=0), np.sum([p.after for p in parts], axis=0))

    @property
    def lost(self) -> NDArray[np.float64]:
        """The fall in recall, as a fraction of all clips."""
        fall: NDArray[np.float64] = (self.before - self.after) / self.clips
        return fall


@dataclass(frozen=True, slots=True)
class Curve:
    """One strength of the mask."""

    reach_s: float
    words: Heard
    sounds: Recalls
    in_use: bool


def markdown(words: Mapping[str, Heard], recalls: Mapping[str, Recalls], curve: Sequence[Curve], took_s: float, split: str) -> str:
    """The whole page."""
    total = next(iter(words.values())).words
    sensitive = Recalls.over([found for label, found in recalls.items() if label != "speech"])
    said = [
        f"| {name} | {heard.wer:.0%} | {heard.right} ({heard.right / heard.words:.0%}) | {heard.stoi:.2f} | {_verdict(name, heard)} |"
        for name, heard in words.items()
    ]
    kept = [_recall_line(label, found) for label, found in {**recalls, "all sensitive": sensitive}.items()]
    points = [_curve_line(point) for point in curve]
    return f"""# Masked audio: what is left

`python -m bench.masking --corpus CORPUS`; {processor()}, {took_s:.0f} s; the corpus's split {split}. Targets: word error rate at least
{LEAST_WER:.0%} and STOI at most {MOST_STOI}; triage recall falls by at most {100 * MOST_LOST:.0f} points.

## Words

{total} words, half of the clips acted speech whose sentences are known (ravdess), half read English (speechocean762_half), where the words
are what the recogniser (pocketsphinx, its own English model) reads in the clean clip; so the unmasked errors are ravdess's alone.
"Right" counts words that survive alignment; the last line says how many do so by chance. What the attacks do: `bench/attacks.py`.

| heard | word error rate | words right | STOI | meets both targets |
|---|---|---|---|---|
{chr(10).join(said)}

## Sounds

Clips flagged by any sensitive label: the shipped bundle at its own thresholds, YAMNet at 0.1. Of speech less is better.

| clips | bundle, before | after | points | YAMNet, before | after | points |
|---|---|---|---|---|---|---|
{chr(10).join(kept)}

## The one against the other

How far grains may come from, with all else as in use:

| reach | word error rate | STOI | bundle, points | YAMNet, points | |
|---|---|---|---|---|---|
{chr(10).join(points)}

![The curve](MASKING.png)
"""


def draw(curve: Sequence[Curve], path: Path, split: str) -> None:
    """Write the curve as a picture."""
    figure, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    plot(curve, ax, split)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def plot(curve: Sequence[Curve], ax: Axes, split: str) -> Axes:
    """Points of recall lost against STOI."""
    for i, (name, marker) in enumerate((("shipped bundle", "o"), ("YAMNet at 0.1", "s"))):
        ax.plot([p.words.stoi for p in curve], [100 * p.sounds.lost[i] for p in curve], marker=marker, label=name)
    for point in curve:
        label = f"{point.reach_s:g} s{' (in use)' if point.in_use else ''}"
        ax.annotate(label, (point.words.stoi, 100 * point.sounds.lost[0]), xytext=(4, 6), textcoords="offset points", fontsize=8)
    ax.axhline(100 * MOST_LOST, color="0.6", linestyle=":", label="targets")
    ax.axvline(MOST_STOI, color="0.6", linestyle=":")
    ax.set_xlabel("STOI of masked speech (0 to 1, less is safer)")
    ax.set_ylabel("triage recall lost (points)")
    ax.set_title(f"Masked audio by reach of grains; {curve[0].sounds.clips} clips of split {split}", fontsize=10)
    ax.legend()
    return ax


def _verdict(name: str, heard: Heard) -> str:
    if not name.startswith("masked"):
        return ""
    return "yes" if heard.wer >= LEAST_WER and heard.stoi <= MOST_STOI else "**no**"


def _recall_line(label: str, found: Recalls) -> str:
    cells = [
        f"{before / found.clips:.0%} | {after / found.clips:.0%} | {-100 * lost:+.1f}"
        for before, after, lost in zip(found.before, found.after, found.lost, strict=True)
    ]
    return f"| {label.replace('_', ' ')} ({found.clips}) | {' | '.join(cells)} |"


def _curve_line(point: Curve) -> str:
    lost = " | ".join(f"{-100 * value:+.1f}" for value in point.sounds.lost)
    return f"| {point.reach_s:g} s | {point.words.wer:.0%} | {point.words.stoi:.2f} | {lost} | {'in use' if point.in_use else ''} |"
