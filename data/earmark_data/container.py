"""Faults that only a sound file's container shows and decoders pass over in silence: it is shorter than its headers promise.

WAV, Ogg and MP3 are checked here by their containers; a FLAC file states its number of samples, which a decoder can count.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

from earmark_data.mp3 import mp3_fault
from earmark_data.ogg import ogg_fault

_UNKNOWN_SIZE = 0xFFFFFFFF
"""What a WAV writer puts down that cannot seek back, or that keeps the true size in a `ds64` chunk (RF64, EBU Tech 3306)."""


def container_fault(file: BinaryIO) -> str | None:
    """Why `file` cannot be read whole according to its container, in words; None where nothing is known to be missing."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if head[:4] in {b"RIFF", b"RF64"} and head[8:] == b"WAVE":
        return _wav(file, size)
    if head[:4] == b"OggS":
        return ogg_fault(file, size)
    if head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] >= 0xE0):  # noqa: PLR2004 - an MPEG frame starts with 11 set bits
        return mp3_fault(file, head, size)
    return None


def _wav(file: BinaryIO, size: int) -> str | None:
    """Walk the RIFF chunks up to `data` and compare its length with what follows."""
    long_size = _UNKNOWN_SIZE
    while len(header := file.read(8)) == 8:  # noqa: PLR2004 - a chunk's name and length, four bytes each
        name, length = header[:4], struct.unpack("<I", header[4:])[0]
        if name == b"ds64" and len(sizes := file.read(16)) == 16:  # noqa: PLR2004 - the file's and the data chunk's lengths, eight bytes each
            long_size = struct.unpack("<QQ", sizes)[1]
            file.seek(length - 16, os.SEEK_CUR)
        elif name == b"fmt " and len(form := file.read(4)) == 4:  # noqa: PLR2004 - format and number of channels, two bytes each
            if form[2:] == b"\0\0":
                return "a header with zero channels"
            file.seek(length - 4, os.SEEK_CUR)
        elif name == b"data":
            promised = long_size if length == _UNKNOWN_SIZE else length
            present = size - file.tell()
            if promised != _UNKNOWN_SIZE and promised > present:
                return f"truncated; its header promises {promised} bytes of samples, {present} are there"
            return None
        else:
            file.seek(length + length % 2, os.SEEK_CUR)  # chunks are padded to even lengths
    return "truncated; it ends before its first sample"
