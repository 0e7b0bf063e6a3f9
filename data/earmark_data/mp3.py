"""What libsndfile does not say of an MP3 file: that it is cut, or that its length is only guessed (ISO/IEC 11172-3, 13818-3)."""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

_MPEG1_KBPS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2_KBPS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MPEG1_HZ = (44_100, 48_000, 32_000)
_MPEG1, _MPEG2 = 3, 2
"""The version field of a frame header; 0 is MPEG-2.5, with half the rates of MPEG-2."""
_HEADER_BYTES = 4
_TRAILERS = (b"TAG", b"APET", b"LYRI", b"ID3")
"""How the tags of players begin, which may follow the last frame, as padding with zeros may."""
_PADDING_BYTES = 65_536
_TAGGED_FRAME_BYTES = 64
"""Any first frame is longer; a Xing or Info tag's counts lie inside."""


def mp3_fault(file: BinaryIO, head: bytes, size: int) -> str | None:
    """Why an MP3 file of `size` bytes that starts with `head` cannot be read whole; None where nothing is known to be missing.

    The byte count of a Xing or Info tag is compared, where there is one, and every frame header is walked: frame must follow frame,
    the last must be whole, and without a tag all must have one bit rate, because a decoder only guesses the length of the others and
    stops where it guessed.
    """
    start = 0
    if head[:3] == b"ID3":
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    file.seek(start)
    first = file.read(_TAGGED_FRAME_BYTES)
    if len(first) < _TAGGED_FRAME_BYTES:
        return "truncated; it ends before its first sample"
    if not _frame(first[:_HEADER_BYTES]):
        return None  # another layer, or padding; the decoder knows
    has_tag, promised = _tag(first)
    if promised is not None and promised > size - start:
        return f"truncated; its header promises {promised} bytes of frames, {size - start} are there"
    return _walk(file, start, size, has_tag=has_tag)


def _tag(frame: bytes) -> tuple[bool, int | None]:
    """Whether the first frame holds a Xing or Info tag, and the number of bytes from this frame on that the tag states."""
    is_mpeg1, is_mono = bool(frame[1] & 0x08), not ~frame[3] & 0xC0
    at = _HEADER_BYTES + ((17 if is_mono else 32) if is_mpeg1 else (9 if is_mono else 17))
    flags = frame[at + 7]
    if frame[at : at + 4] not in {b"Xing", b"Info"}:
        return False, None
    if not flags & 0x02:
        return True, None
    at += 12 if flags & 0x01 else 8  # the number of frames stands before the number of bytes
    return True, struct.unpack(">I", frame[at : at + 4])[0]


def _walk(file: BinaryIO, start: int, size: int, *, has_tag: bool) -> str | None:
    file.seek(start)
    at, rates = start, set()
    while frame := _frame(header := file.read(_HEADER_BYTES)):
        length, kbps = frame
        rates.add(kbps)
        at += length
        file.seek(length - _HEADER_BYTES, os.SEEK_CUR)
    if at > size:
        return "truncated; its last frame is cut"
    padding = (header + file.read(_PADDING_BYTES)).strip(b"\0") == b"" and size - at <= _PADDING_BYTES
    if len(header) == _HEADER_BYTES and not padding and not header.startswith(_TRAILERS):
        return f"damaged; at byte {at} of {size} stands no MP3 frame"
    if len(rates) > 1 and not has_tag:
        return "its bit rate varies and no Xing tag tells its length, so a part would be lost unseen; convert it to wav or flac"
    return None


def _frame(header: bytes) -> tuple[int, int] | None:
    """Length in bytes and bit rate in kb/s of the layer III frame with this header; None where there is none."""
    if len(header) < _HEADER_BYTES:
        return None
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    rate_index, hz_index, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    is_frame = header[0] == 0xFF and header[1] >= 0xE0 and layer == 1 and version != 1  # noqa: PLR2004 - eleven set bits
    if not is_frame or not 0 < rate_index < len(_MPEG1_KBPS) or hz_index >= len(_MPEG1_HZ):
        return None
    kbps = (_MPEG1_KBPS if version == _MPEG1 else _MPEG2_KBPS)[rate_index]
    sample_rate_hz = _MPEG1_HZ[hz_index] // {_MPEG1: 1, _MPEG2: 2}.get(version, 4)
    return (144_000 if version == _MPEG1 else 72_000) * kbps // sample_rate_hz + padding, kbps
