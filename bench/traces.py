"""Looks for traces of known numbers in any bytes: a packet, a file, the memory of a process.

A piece of `PIECE_BYTES` is looked for at every so many elements of each array, so that whoever keeps or sends one step more of it
than a piece is found. Pieces that are too plain to mean anything, such as silence, are not looked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PIECE_BYTES = 64
_KEY_BYTES = 8
_LEAST_DISTINCT = 8
_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Traces:
    """Pieces of one kind: `keys` `[pieces]` their first eight bytes, sorted, and `pieces` `[pieces, PIECE_BYTES]` in the same order."""

    name: str
    keys: npt.NDArray[np.uint64]
    pieces: npt.NDArray[np.uint8]
    align: int
    """In memory such numbers lie at multiples of this many bytes."""

    @classmethod
    def of(cls, name: str, arrays: Iterable[npt.NDArray[Any]], every: int = 1) -> Traces:
        """The pieces of arrays of one type, each `[elements]`, one at every `every` elements; of those that begin alike the first."""
        found, align = [np.zeros((0, PIECE_BYTES), np.uint8)], 1
        for array in arrays:
            align, length = array.itemsize, PIECE_BYTES // array.itemsize
            if len(array) >= length:
                windows = np.lib.stride_tricks.sliding_window_view(array, length)[::every]
                found.append(np.ascontiguousarray(windows[_telling(windows)]).view(np.uint8).reshape(-1, PIECE_BYTES))
        pieces = np.concatenate(found)
        keys, first = np.unique(np.ascontiguousarray(pieces[:, :_KEY_BYTES]).view(np.uint64).ravel(), return_index=True)
        return cls(name, keys, pieces[first], align)

    def found_in(self, data: bytes, *, is_memory: bool = False) -> int:
        """How many different pieces lie somewhere in `data`; in memory only where such numbers can lie."""
        hits: set[int] = set()
        for start in range(0, len(data), _CHUNK_BYTES):
            chunk = np.frombuffer(data, np.uint8, min(_CHUNK_BYTES + PIECE_BYTES, len(data) - start), start)
            for shift in range(0, _KEY_BYTES, self.align if is_memory else 1):
                hits.update(self._hits(chunk, shift))
        return len(hits)

    def _hits(self, chunk: npt.NDArray[np.uint8], shift: int) -> list[int]:
        whole = (len(chunk) - shift) // _KEY_BYTES * _KEY_BYTES
        if whole <= PIECE_BYTES or not len(self.keys):
            return []
        values = chunk[shift : shift + whole].view(np.uint64)
        at = np.minimum(np.searchsorted(self.keys, values), len(self.keys) - 1)
        places = np.flatnonzero(self.keys[at] == values)
        begin = shift + places * _KEY_BYTES
        inside = begin + PIECE_BYTES <= len(chunk)
        numbers, begin = at[places][inside], begin[inside]
        seen = chunk[begin[:, None] + np.arange(PIECE_BYTES)]
        return [int(number) for number in np.unique(numbers[(seen == self.pieces[numbers]).all(axis=1)])]


def memory_of(pid: int) -> bytes:
    """What a core dump of a live process would hold: every page of its own, as root reads them."""
    regions = []
    with Path(f"/proc/{pid}/maps").open(encoding="utf-8") as maps, Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            addresses, rights, *_ = line.split()
            start, end = (int(word, 16) for word in addresses.split("-"))
            if "w" not in rights or line.rstrip().endswith(("[vvar]", "[vdso]", "[vsyscall]")):
                continue
            memory.seek(start)
            regions.append(memory.read(end - start))
    return b"".join(regions)


def _telling(windows: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which of `[pieces, elements]` are no silence or constant: their elements differ, and so do the first ones, none of which is 0."""
    key = windows[:, : _KEY_BYTES // windows.itemsize]
    distinct = (np.diff(np.sort(windows, axis=1), axis=1) != 0).sum(axis=1) + 1
    return np.asarray((distinct >= _LEAST_DISTINCT) & (np.diff(np.sort(key, axis=1), axis=1) != 0).all(axis=1) & (key != 0).all(axis=1))
