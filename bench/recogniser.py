"""An offline speech recogniser to measure with, and how far its words are from those that were said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16_000
_PEAK = 0.7


class Aligned(NamedTuple):
    """The least edits (words replaced, left out, added) from what was said to what was read, and the words left right by them."""

    edits: int
    right: int


class Recogniser:
    """pocketsphinx with the US English model that it carries (a large vocabulary, a trigram language model)."""

    def __init__(self) -> None:
        from pocketsphinx import Decoder  # noqa: PLC0415 - an extra of benchmarks only

        self._decoder: Any = Decoder(samprate=RATE_HZ, loglevel="FATAL")

    def words(self, audio: NDArray[np.float32]) -> list[str]:
        """What it reads in `[samples]` at 16 kHz, brought to a good level first."""
        pcm = np.round(audio / (np.abs(audio).max() + 1e-9) * _PEAK * 32_767).astype("<i2")
        self._decoder.start_utt()
        self._decoder.process_raw(pcm.tobytes(), full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        text = re.sub(r"\(\d+\)", "", found.hypstr.lower()) if found else ""  # other(2): a second way to say it
        return [word for word in text.split() if not word.startswith(("<", "["))]


def aligned(said: Sequence[str], read: Sequence[str]) -> Aligned:
    """Align by edit distance (Levenshtein, 1966); among equal distances the one with most words right.

    >>> aligned("kids are talking".split(), "the kids were talking".split())
    Aligned(edits=2, right=2)
    """
    row = [(i, 0) for i in range(len(read) + 1)]  # edits, minus words right
    for word in said:
        above, row = row, [(row[0][0] + 1, 0)]
        for i, other in enumerate(read):
            same = (above[i][0] + (word != other), above[i][1] - (word == other))
            row.append(min(same, (above[i + 1][0] + 1, above[i + 1][1]), (row[i][0] + 1, row[i][1])))
    return Aligned(row[-1][0], -row[-1][1])
