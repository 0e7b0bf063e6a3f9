"""Where live sound comes from: what every source promises, and files and raw PCM as sources."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from earmark_edge.capture import CaptureError, blocks, files_of

Samples = npt.NDArray[np.float32]

BLOCK_S = 0.5
"""Length of what a live source hands on at once: a hop, since a shorter one completes no window and costs as much to handle."""
FAST_BLOCK_S = 2.0
"""The same where a file is read as fast as it can be scored."""
_ENCODINGS = {"s16le": ("<i2", 32_768.0), "s32le": ("<i4", 2_147_483_648.0), "f32le": ("<f4", 1.0)}
MIN_RATE_HZ, MAX_RATE_HZ, MAX_CHANNELS = 4_000, 384_000, 32


class SourceError(RuntimeError):
    """A source cannot be opened, or broke; the message says what and why. Opening it again may help."""


class SourceEndedError(SourceError):
    """A source came to its regular end and has nothing more to give."""


class InputError(ValueError):
    """An input was named in a way that can never work."""


class Source(Protocol):
    """A stream of mono samples at the model's rate, in [-1, 1], that can be closed and opened again."""

    name: str
    """What is shown of it: never a password."""
    is_live: bool
    """Whether it goes on in real time whoever listens, and opening it again joins it where it is then."""

    def open(self) -> None:
        """Begin to listen.

        Raises:
            SourceError: it cannot be opened now.
        """

    def read(self, timeout_s: float) -> Samples | None:
        """The next samples, float32 `[samples]`; None where none came within `timeout_s`.

        Raises:
            SourceEndedError: there will be no more.
            SourceError: it broke.
        """

    def close(self) -> None:
        """Stop listening; harmless on a source that is not open."""


class FileSource:
    """A sound file, at the pace of its recording or as fast as it is taken.

    Raises:
        InputError: there is no such file.
    """

    is_live = False

    def __init__(self, path: Path, sample_rate_hz: int, *, is_paced: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        try:
            (self._path,) = files_of(path)
        except (CaptureError, ValueError) as error:
            msg = str(error) if isinstance(error, CaptureError) else f"{path}: a folder; name one file"
            raise InputError(msg) from error
        self.name = path.name
        self._rate_hz, self._is_paced, self._clock = sample_rate_hz, is_paced, clock
        self._block = round((BLOCK_S if is_paced else FAST_BLOCK_S) * sample_rate_hz)
        self._pieces: Iterator[Samples] = iter(())
        self._given, self._began_s = 0, 0.0

    def open(self) -> None:
        """Begin at the first sample."""
        self._pieces, self._given, self._began_s = self._cut(), 0, self._clock()

    def read(self, timeout_s: float) -> Samples | None:
        """The next half second (paced) or two seconds."""
        if self._is_paced:
            wait_s = self._began_s + self._given / self._rate_hz - self._clock()
            if wait_s > timeout_s:
                time.sleep(timeout_s)
                return None
            time.sleep(max(0.0, wait_s))
        try:
            piece = next(self._pieces, None)
        except CaptureError as error:  # damage half-way is there again at the next try
            raise SourceEndedError(str(error)) from error
        if piece is None:
            raise SourceEndedError(self.name)
        self._given += len(piece)
        return piece

    def close(self) -> None:
        """Forget the file."""
        self._pieces = iter(())

    def _cut(self) -> Iterator[Samples]:
        for block in blocks(self._path, self._rate_hz):
            for start in range(0, len(block), self._block):
                yield block[start : start + self._block]


@dataclass(frozen=True, slots=True)
class PcmFormat:
    """Raw samples: rate in Hz, interleaved channels, `encoding` s16le, s32le or f32le.

    Raises:
        InputError: a field is outside what is understood.
    """

    rate_hz: int
    channels: int = 1
    encoding: str = "s16le"

    def __post_init__(self) -> None:
        if self.encoding not in _ENCODINGS:
            msg = f"PCM is given as one of {', '.join(_ENCODINGS)}, got {self.encoding!r}"
            raise InputError(msg)
        if not MIN_RATE_HZ <= self.rate_hz <= MAX_RATE_HZ:
            msg = f"a sample rate lies between {MIN_RATE_HZ} and {MAX_RATE_HZ} Hz, got {self.rate_hz}"
            raise InputError(msg)
        if not 1 <= self.channels <= MAX_CHANNELS:
            msg = f"1 to {MAX_CHANNELS} channels, got {self.channels}"
            raise InputError(msg)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return self.channels * np.dtype(_ENCODINGS[self.encoding][0]).itemsize


class PcmDecoder:
    """Bytes of raw PCM, cut anywhere, to mono float32 at `to_hz`; the same for any chunking."""

    def __init__(self, form: PcmFormat, to_hz: int) -> None:
        self._form = form
        self._held = b""
        self._resampler = Resampler(form.rate_hz, to_hz)

    def feed(self, data: bytes) -> Samples:
        """The samples that `data` completes."""
        data = self._held + data
        whole = len(data) // self._form.frame_bytes * self._form.frame_bytes
        self._held = data[whole:]
        kind, full_scale = _ENCODINGS[self._form.encoding]
        values = np.frombuffer(data[:whole], kind).astype(np.float32).reshape(-1, self._form.channels)
        if full_scale > 1:
            values /= np.float32(full_scale)
        return self._resampler.feed(values[:, 0] if self._form.channels == 1 else values.mean(axis=1, dtype=np.float32))

    def flush(self) -> Samples:
        """What the resampler still holds; the stream is over. An incomplete last sample is left out."""
        return self._resampler.flush()


class Resampler:
    """A change of rate on a stream by soxr's high quality, as the project's decoder has it; nothing where the rates are equal."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._stream = None
        if from_hz != to_hz:
            try:
                import soxr  # noqa: PLC0415 - a device whose microphone runs at the model's rate does without
            except ImportError as error:
                msg = f"{from_hz} Hz has to be brought to {to_hz} Hz, which needs soxr: pip install 'earmark[edge]'"
                raise SourceError(msg) from error
            self._stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32")

    def feed(self, samples: Samples) -> Samples:
        """The samples at the new rate that can be given by now, in [-1, 1]."""
        return self._changed(samples, last=False)

    def flush(self) -> Samples:
        """The rest."""
        return self._changed(np.zeros(0, np.float32), last=True)

    def _changed(self, samples: Samples, *, last: bool) -> Samples:
        if self._stream is None:
            return samples
        # A NaN would spread through the filter's memory to everything that follows.
        clean = np.nan_to_num(np.ascontiguousarray(samples), nan=0.0, posinf=1.0, neginf=-1.0)
        return np.asarray(self._stream.resample_chunk(clean, last=last), np.float32)


class PcmSource:
    """Raw PCM from an open descriptor, such as standard input."""

    is_live = False  # once closed, a pipe is gone

    def __init__(self, descriptor: int, form: PcmFormat, sample_rate_hz: int, *, name: str = "standard input") -> None:
        self.name = name
        self._descriptor, self._form, self._rate_hz = descriptor, form, sample_rate_hz
        self._decoder: PcmDecoder | None = None
        self._want = max(form.frame_bytes, round(BLOCK_S * form.rate_hz) * form.frame_bytes)

    def open(self) -> None:
        """Nothing is read before `read`."""
        self._decoder = self._decoder or PcmDecoder(self._form, self._rate_hz)

    def read(self, timeout_s: float) -> Samples | None:
        """What is there, up to half a second; what comes in small pieces is put together for as long as `timeout_s`."""
        if self._decoder is None:
            raise SourceEndedError(self.name)
        data, is_ended = self._gathered(timeout_s)
        if data:
            return self._decoder.feed(data)
        if not is_ended:
            return None
        rest, self._decoder = self._decoder.flush(), None
        if not rest.size:
            raise SourceEndedError(self.name)
        return rest

    def _gathered(self, timeout_s: float) -> tuple[bytes, bool]:
        """What came within `timeout_s`, and whether the descriptor has nothing more to give."""
        data, until_s = b"", time.monotonic() + timeout_s
        while len(data) < self._want and select.select([self._descriptor], [], [], max(0.0, until_s - time.monotonic()))[0]:
            piece = os.read(self._descriptor, self._want - len(data))
            if not piece:
                return data, True
            data += piece
        return data, False

    def close(self) -> None:
        """The descriptor belongs to whoever opened it."""
