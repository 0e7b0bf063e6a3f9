"""Sound files to mono float32 samples: the only decoder and the only resampler in the project (libsndfile and soxr)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from earmark_data.container import container_fault

Samples = npt.NDArray[np.float32]

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")
"""What a folder is searched for; a file that is named outright may have any suffix."""
_DECODE_VALUES = 1 << 18
"""Samples over all channels that are decoded at once: 1 MiB, whatever the rate and the number of channels."""


_UNKNOWN_FRAMES = 1 << 62
"""libsndfile's count of frames where a FLAC header states none, as a writer to a pipe leaves it."""


class AudioError(ValueError):
    """A sound file cannot be used; the message names the file and the cause."""


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a file's header says: length in seconds, sample rate in Hz and number of channels."""

    path: Path
    duration_s: float
    sample_rate_hz: int
    channels: int


def probe_audio(path: str | os.PathLike[str]) -> AudioInfo:
    """Read the header of `path` only.

    Raises:
        AudioError: as `read_audio`, as far as headers tell.
    """
    path = Path(path)
    with _opened(path) as sound:
        return AudioInfo(path, sound.frames / sound.samplerate, sound.samplerate, sound.channels)


def read_audio(
    path: str | os.PathLike[str], *, sample_rate_hz: int = 16_000, offset_s: float = 0.0, duration_s: float | None = None
) -> Samples:
    """Decode `path` from `offset_s` for `duration_s` (or to its end, whichever comes first): float32 `[samples]`, mono, in [-1, 1].

    Channels are averaged; the rate is changed by soxr's high quality, which removes what `sample_rate_hz` cannot hold.
    A part is resampled on its own, so a few milliseconds at its edges differ from the same part of the whole.

    Raises:
        AudioError: the file is missing, unreadable, empty, not audio, without samples, truncated, damaged, or holds a sample
            that is not finite; or the part asked for is not inside it.
    """
    path = Path(path)
    with _opened(path) as sound:
        first, count = _part(path, sound, offset_s, duration_s)
        if first:
            sound.seek(first)
        blocks = list(_resampled(_mono_blocks(path, sound, first, count), sound.samplerate, sample_rate_hz))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def stream_audio(path: str | os.PathLike[str], *, sample_rate_hz: int = 16_000, block_s: float = 10.0) -> Iterator[Samples]:
    """Yield the samples of `read_audio(path)` in blocks of `block_s` seconds, the last one shorter; memory does not grow with length.

    Raises:
        AudioError: as `read_audio`; damage that only decoding shows is raised where it is met.
    """
    path = Path(path)
    block = round(block_s * sample_rate_hz)
    if block < 1:
        msg = f"{path}: a block needs at least one sample, block_s={block_s} at {sample_rate_hz} Hz has none"
        raise AudioError(msg)
    held = np.zeros(0, np.float32)
    with _opened(path) as sound:
        for part in _resampled(_mono_blocks(path, sound, 0, None), sound.samplerate, sample_rate_hz):
            held = np.concatenate([held, part])
            whole = len(held) // block * block
            for start in range(0, whole, block):
                yield held[start : start + block]
            held = held[whole:]
    if held.size:
        yield held


def find_audio(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Files as they are named, and for each folder every file below it with an audio suffix, sorted; none twice.

    Raises:
        AudioError: a path does not exist, a folder holds no audio, or a folder cannot be read.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(Path(folder) / name for folder, _, names in os.walk(path, onerror=_raise_unreadable) for name in names)
            audio = [file for file in inside if file.suffix.lower() in AUDIO_SUFFIXES]
            if not audio:
                msg = f"{path}: a folder without audio; expected files that end in {', '.join(AUDIO_SUFFIXES)}"
                raise AudioError(msg)
            found.update(dict.fromkeys(audio))
        elif not path.exists():
            msg = f"{path}: no such file or folder"
            raise AudioError(msg)
        else:
            found[path] = None
    return list(found)


def _raise_unreadable(error: OSError) -> None:
    msg = f"{error.filename}: cannot be read ({os.strerror(error.errno or errno.EIO)})"
    raise AudioError(msg) from error


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    """`path` as an open sound file, after the checks that need no decoding; every failure is an `AudioError`."""
    _check_container(path)
    try:
        # By descriptor: from a name that ends in .mp3, libsndfile takes any bytes for MP3, and its decoder complains on stderr.
        sound = soundfile.SoundFile(os.open(path, os.O_RDONLY), closefd=True)
    except soundfile.LibsndfileError as error:
        msg = f"{path}: not audio that can be decoded ({_cause(error)}); expected wav, flac, ogg, opus or mp3"
        raise AudioError(msg) from error
    with sound:
        if sound.channels < 1 or sound.samplerate < 1:
            msg = f"{path}: its header names {sound.channels} channels at {sound.samplerate} Hz; both must be positive"
            raise AudioError(msg)
        if sound.frames < 1:
            msg = f"{path}: a header without samples"
            raise AudioError(msg)
        if sound.frames >= _UNKNOWN_FRAMES:
            msg = f"{path}: its header states no length, as when it was written to a pipe; write it again as a file"
            raise AudioError(msg)
        yield sound


def _cause(error: soundfile.LibsndfileError) -> str:
    return str(error.error_string).removeprefix("Error : ").strip().rstrip(".")


def _check_container(path: Path) -> None:
    try:
        with path.open("rb") as file:
            is_empty = not file.read(1)
            fault = None if is_empty else container_fault(file)
    except FileNotFoundError as error:
        msg = f"{path}: no such file"
        raise AudioError(msg) from error
    except IsADirectoryError as error:
        msg = f"{path}: a folder, expected a sound file"
        raise AudioError(msg) from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        cause = error.strerror if isinstance(error, OSError) else str(error)
        msg = f"{path}: cannot be read ({cause})"
        raise AudioError(msg) from error
    if is_empty:
        msg = f"{path}: an empty file (0 bytes)"
        raise AudioError(msg)
    if fault:
        msg = f"{path}: {fault}"
        raise AudioError(msg)


def _part(path: Path, sound: soundfile.SoundFile, offset_s: float, duration_s: float | None) -> tuple[int, int | None]:
    """First frame and number of frames, at the file's own rate; None for all that follow."""
    first = round(offset_s * sound.samplerate)
    if offset_s < 0 or first >= sound.frames:
        msg = f"{path}: offset {offset_s} s lies outside its {sound.frames / sound.samplerate:.3f} s"
        raise AudioError(msg)
    if duration_s is None:
        return first, None
    count = round(duration_s * sound.samplerate)
    if count < 1:
        msg = f"{path}: a duration of {duration_s} s holds no sample at {sound.samplerate} Hz"
        raise AudioError(msg)
    return first, min(count, sound.frames - first)


def _mono_blocks(path: Path, sound: soundfile.SoundFile, first: int, count: int | None) -> Iterator[Samples]:
    """Decode `count` frames from where `sound` stands, which is frame `first`; mono blocks at the file's own rate."""
    expected = sound.frames - first if count is None else count
    block_frames = max(1, _DECODE_VALUES // sound.channels)
    done = 0
    while count is None or done < count:
        wanted = block_frames if count is None else min(block_frames, count - done)
        try:
            block = sound.read(wanted, dtype="float32", always_2d=True)  # [frames, channels]
        except soundfile.LibsndfileError as error:
            at_s = (first + done) / sound.samplerate
            msg = f"{path}: truncated or damaged from about {at_s:.1f} s on ({_cause(error)})"
            raise AudioError(msg) from error
        if not len(block):
            break
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            at_s = (first + done + int(np.argmin(finite))) / sound.samplerate
            msg = f"{path}: a sample that is not a finite number at {at_s:.3f} s"
            raise AudioError(msg)
        done += len(block)
        yield block[:, 0] if sound.channels == 1 else block.mean(axis=1, dtype=np.float32)
    is_length_exact = sound.subtype != "MPEG_LAYER_III"  # there it may be an estimate; `container_fault` has looked at every frame
    if done < expected and is_length_exact:
        msg = f"{path}: truncated; its header promises {expected} samples per channel, {done} could be decoded"
        raise AudioError(msg)


def _resampled(blocks: Iterator[Samples], from_hz: int, to_hz: int) -> Iterator[Samples]:
    """Change the rate of a stream; the result does not depend on where the blocks are cut. Peaks that overshoot are clipped."""
    if from_hz == to_hz:
        yield from (np.clip(block, -1.0, 1.0) for block in blocks)
        return
    resampler = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32")
    for block in blocks:
        part = resampler.resample_chunk(np.ascontiguousarray(block))
        if part.size:
            yield np.clip(part, -1.0, 1.0)
    part = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
    if part.size:
        yield np.clip(part, -1.0, 1.0)
