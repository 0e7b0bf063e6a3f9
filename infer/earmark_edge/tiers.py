"""What of a detection may be disclosed, in steps: each tier an object of its own, made on the device. Pure."""

from __future__ import annotations

import io
import wave
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from earmark_edge.detector import Detection
from earmark_edge.event import AUDIO_TIER, SCORE_TRACK_MEDIA_TYPE, SCORE_TRACK_TIER
from earmark_edge.mask import mask, rng_for
from earmark_edge.picture import PICTURE_MEDIA_TYPE, third_octave_picture

PICTURE_TIER = 1
MASKED_TIER = 2
WAV_MEDIA_TYPE = "audio/wav"
_FULL_SCALE = 32_767


class TierObject(NamedTuple):
    """The raw bytes of one tier, and what they are."""

    media_type: str
    payload: bytes


def tier_objects(detection: Detection, sample_rate_hz: int, *, with_audio: bool = True) -> Mapping[int, TierObject]:
    """Score track, third-octave picture and, with audio, masked and original audio of a detection, by tier.

    The same detection gives the same bytes, however the stream was chunked. What leaves of them is for consent and policy to say.
    """
    audio = detection.audio
    picture = third_octave_picture(audio, sample_rate_hz, detection.onset_s)
    objects = {
        SCORE_TRACK_TIER: TierObject(SCORE_TRACK_MEDIA_TYPE, detection.track.to_bytes()),
        PICTURE_TIER: TierObject(PICTURE_MEDIA_TYPE, picture.to_bytes()),
    }
    if with_audio:
        masked = mask(audio, sample_rate_hz, rng_for(audio))
        objects[MASKED_TIER] = TierObject(WAV_MEDIA_TYPE, wav_bytes(masked, sample_rate_hz))
        objects[AUDIO_TIER] = TierObject(WAV_MEDIA_TYPE, wav_bytes(audio, sample_rate_hz))
    return objects


def wav_bytes(audio: npt.NDArray[np.float32], sample_rate_hz: int) -> bytes:
    """A WAV file of 16-bit samples from float32 `[samples]` in [-1, 1], mono."""
    pcm = np.round(np.clip(audio, -1.0, 1.0) * _FULL_SCALE).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes(pcm.tobytes())
    return buffer.getvalue()
