"""Which kinds of object each tier may hold, and under which name a browser gets them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

PICTURE_TIER = 1
MASKED_TIER = 2
ORIGINAL_TIER = 3
"""Opens by break-glass alone."""

_JSON = {"application/json": "application/json"}
_AUDIO = {
    "audio/wav": "audio/wav",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/flac": "audio/flac",
    "audio/x-flac": "audio/flac",
    "audio/ogg": "audio/ogg",
    "audio/opus": "audio/ogg",
}
_TIERS: Mapping[int, Mapping[str, str]] = MappingProxyType({0: _JSON, 1: {**_JSON, "image/png": "image/png"}, 2: _AUDIO, 3: _AUDIO})


def served_as(tier: int, media_type: str) -> str | None:
    """The name for a browser of what a device calls `media_type`; None where the tier does not take it."""
    return _TIERS[tier].get(bare(media_type))


def accepted_at(tier: int) -> Sequence[str]:
    """The media types that a tier takes."""
    return sorted(_TIERS[tier])


def bare(media_type: str) -> str:
    """A media type without its parameters."""
    return media_type.partition(";")[0].strip().lower()
