"""Walks the pages of an Ogg file, whose numbers and checksums tell of losses that decoders smooth over in silence (RFC 3533)."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO, NamedTuple

_HEADER = struct.Struct("<4sBBqIIIB")
_LAST_PAGE = 0x04
_CHECKSUM_AT = 22
_ALL_ONES = 0xFFFFFFFF
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class _Page(NamedTuple):
    is_last: bool
    stream: int
    number: int
    is_whole: bool
    is_sound: bool
    length: int


def ogg_fault(file: BinaryIO, size: int) -> str | None:
    """Why an Ogg file of `size` bytes cannot be read whole; None where every page of every stream is there and undamaged."""
    at = 0
    following: dict[int, int] = {}  # stream: the number of its next page; streams that have ended are left out
    while at < size:
        file.seek(at)
        page = _read_page(file)
        if page is None:
            if following or not at:
                return f"damaged; at byte {at} of {size} stands no Ogg page"
            break  # what players append
        if at and not following:
            return "a chain of recordings, of which only the first would be heard; save them as files of their own"
        if not page.is_whole:
            return "truncated; its last page is cut"
        if not page.is_sound:
            return f"damaged; the Ogg page at byte {at} of {size} does not match its checksum"
        if page.number != following.get(page.stream, page.number):
            return f"damaged; an Ogg page is missing before byte {at} of {size}"
        following[page.stream] = (page.number + 1) & _ALL_ONES
        if page.is_last:
            del following[page.stream]
        at += page.length
    return "truncated; its last page does not carry the end-of-stream mark" if following else None


def _read_page(file: BinaryIO) -> _Page | None:
    """The page that starts where `file` stands; None where there is none."""
    header = file.read(_HEADER.size)
    if not header.startswith(b"OggS"[: len(header)]) or not header:
        return None
    if len(header) < _HEADER.size:
        return _Page(is_last=False, stream=0, number=0, is_whole=False, is_sound=False, length=0)
    _, _, flags, _, stream, number, checksum, segments = _HEADER.unpack(header)
    table = file.read(segments)
    body = file.read(sum(table))
    is_whole = len(table) == segments and len(body) == sum(table)
    without = header[:_CHECKSUM_AT] + bytes(4) + header[_CHECKSUM_AT + 4 :]
    is_sound = is_whole and _checksum(without + table + body) == checksum
    return _Page(bool(flags & _LAST_PAGE), stream, number, is_whole, is_sound, _HEADER.size + segments + len(body))


def _checksum(data: bytes) -> int:
    """Ogg's CRC-32: zlib's polynomial over bits in the other order, from zero and without the final complement."""
    mirrored = zlib.crc32(data.translate(_MIRRORED), _ALL_ONES) ^ _ALL_ONES
    return int.from_bytes(mirrored.to_bytes(4, "little").translate(_MIRRORED), "big")
