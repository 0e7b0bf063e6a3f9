"""Small corpora in the true layout: manifests and tones, written into a temporary folder."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import soundfile

COLUMNS = ("path", "label", "split", "source", "group", "duration_s", "alternative_label", "licence_tier")
TONES_HZ = {"scream": 2_000, "cry": 1_200, "baby_cry": 500, "laughter": 800, "speech": 200, "other_human": 150, "background": 100}


def write_rows(folder: Path, rows: list[dict[str, str]], columns: tuple[str, ...] = COLUMNS) -> Path:
    path = folder / "manifest.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def row(path: str = "a.wav", **changes: str) -> dict[str, str]:
    values = {
        "path": path,
        "label": "scream",
        "split": "train",
        "source": "s1",
        "group": f"g-{path}",
        "duration_s": "1.0",
        "licence_tier": "open",
    }
    return {**values, **changes}


def write_corpus(folder: Path, clips_per_label: int = 3, seconds: float = 2.5) -> Path:
    """A clip of each label and split from each of two sources: a tone of the label's own pitch in noise."""
    rng, rows = np.random.default_rng(0), []
    time = np.arange(int(seconds * 16_000)) / 16_000
    for label, hz in TONES_HZ.items():
        for split in ("train", "val", "test"):
            for number in range(clips_per_label):
                name = f"{label}-{split}-{number}.wav"
                tone = 0.3 * np.sin(2 * np.pi * hz * (1 + 0.02 * rng.standard_normal()) * time) + 0.01 * rng.standard_normal(time.size)
                soundfile.write(folder / name, tone, 16_000)
                tier = "open" if number % 2 == 0 else "unknown"
                rows.append(row(name, label=label, split=split, source=f"s{number % 2}", duration_s=str(seconds), licence_tier=tier))
    return write_rows(folder, rows)
