"""How an input is named on the command line, and the source that it stands for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from earmark_edge.listen.ffmpeg import FfmpegSource
from earmark_edge.listen.microphone import MicrophoneSource
from earmark_edge.listen.source import FileSource, InputError, PcmFormat, PcmSource, Source

FFMPEG_DEVICES = ("alsa", "pulse", "lavfi", "avfoundation")
_INPUTS = f"mic, mic:NAME, a sound file, - (PCM), an address such as rtsp://HOST/PATH, or {':DEVICE, '.join(FFMPEG_DEVICES)}:DEVICE"
_STDIN = 0
_NAMED = re.compile(r"([A-Za-z][\w .-]{0,30})=(.+)")


@dataclass(frozen=True, slots=True)
class Input:
    """A source and what the owner calls it."""

    name: str
    source: Source


def inputs_of(texts: list[str], sample_rate_hz: int, *, pcm: PcmFormat | None, is_fast: bool) -> list[Input]:
    """The sources that `texts` name: `mic`, `mic:DEVICE`, a sound file, `-`, an address, `alsa:DEVICE`; each may begin `NAME=`.

    Raises:
        InputError: a text names nothing that can be listened to, or two inputs have one name or one standard input.
    """
    found = [_input(text, sample_rate_hz, pcm=pcm, is_fast=is_fast) for text in texts]
    names = [each.name for each in found]
    if double := sorted({name for name in names if names.count(name) > 1}):
        msg = f"two inputs are called {double[0]!r}; name them apart, such as nursery=mic:1 hall=mic:2"
        raise InputError(msg)
    if sum(isinstance(each.source, PcmSource) for each in found) > 1:
        msg = "standard input can be listened to once"
        raise InputError(msg)
    return found


def _input(text: str, sample_rate_hz: int, *, pcm: PcmFormat | None, is_fast: bool) -> Input:
    named = None if Path(text).exists() else _NAMED.fullmatch(text)
    source = _source(named[2] if named else text, sample_rate_hz, pcm=pcm, is_fast=is_fast)
    return Input(named[1].strip() if named else source.name, source)


def _source(text: str, sample_rate_hz: int, *, pcm: PcmFormat | None, is_fast: bool) -> Source:
    if not text.strip():  # an unset variable in a script; as a path it would be the folder that one stands in
        msg = f"got an empty input; an input is {_INPUTS}"
        raise InputError(msg)
    kind, _, rest = text.partition(":")
    if text == "-":
        if pcm is None:
            msg = "PCM on standard input says nothing of itself: give --rate, and --channels and --encoding where they are not 1 and s16le"
            raise InputError(msg)
        return PcmSource(_STDIN, pcm, sample_rate_hz)
    if kind == "mic":
        return MicrophoneSource(sample_rate_hz, rest or None)
    if "://" in text:
        return FfmpegSource(text, sample_rate_hz)
    if kind in FFMPEG_DEVICES and rest:
        return FfmpegSource(rest, sample_rate_hz, input_options=("-f", kind))
    try:
        return FileSource(Path(text), sample_rate_hz, is_paced=not is_fast)
    except InputError as error:
        msg = f"{error}; an input is {_INPUTS}"
        raise InputError(msg) from error
