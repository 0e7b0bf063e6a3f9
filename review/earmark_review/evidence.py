"""Gathers what a reviewer sees of a case under a live lease: pictures of the clip, the score track, and what is amiss with them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from earmark_edge.event import SCORE_TRACK_TIER, ScoreTrack, WireError
from earmark_edge.picture import ThirdOctavePicture
from earmark_review import bands, figures
from earmark_review.errors import BlobMissingError, KeyGoneError, SoundError, UnsealError
from earmark_review.media import MASKED_TIER, ORIGINAL_TIER, PICTURE_TIER
from earmark_review.sound import Sound, read_sound
from earmark_review.store.caseload import CaseFile
from earmark_review.store.intake import DeclaredObject

Opener = Callable[[DeclaredObject], bytes]
"""Gives the bytes of a held object in the clear."""
_NOT_OPENED = (BlobMissingError, KeyGoneError, UnsealError)


@dataclass(frozen=True, slots=True)
class SoundFigure:
    """The clip's own pictures; the spectrogram itself is fetched apart."""

    waveform: str
    width_percent: float
    peak_dbfs: float | None
    frequency_ticks: Sequence[figures.Tick]
    is_cut: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """A case's pictures on one time axis. `problems` says in words what could not be drawn."""

    start_s: float
    """Where the clip begins on the stream's own clock."""
    duration_s: float
    time_ticks: Sequence[figures.Tick]
    span: figures.Span | None
    bands: bands.BandsFigure | None
    sound: SoundFigure | None
    track: Sequence[figures.TrackLine]
    problems: Sequence[str]


def held_at(file: CaseFile, tier: int) -> DeclaredObject | None:
    """The object of a tier, if its bytes are here."""
    declared = file.object_at(tier)
    return declared if declared is not None and declared.blob_key is not None else None


def audible(file: CaseFile, *, is_original_open: bool) -> DeclaredObject | None:
    """The audio that may be shown and played: masked, or the original once the glass is broken."""
    return held_at(file, ORIGINAL_TIER if is_original_open else MASKED_TIER)


def gather(file: CaseFile, open_sealed: Opener, cap_s: float, *, is_original_open: bool = False) -> Evidence:
    """Read and lay out a case's evidence; what cannot be read is told in `problems`, and the rest is shown."""
    problems: list[str] = []
    sound = _sound(audible(file, is_original_open=is_original_open), open_sealed, cap_s, problems)
    picture = _picture(file, open_sealed, problems)
    track = _track(file, open_sealed, problems)
    # Without a score track and a picture nobody says where the clip begins; then it is taken to begin with the event.
    start_s = next((told.start_s for told in (track, picture) if told), file.event.onset_s)
    # A picture's last column may reach beyond the clip, so it gives the length only where nothing else does.
    lengths = [told.duration_s for told in (sound, track) if told] or [picture.duration_s if picture else file.line.length_s]
    duration_s = max(lengths)
    drawn = None
    if sound:
        wave = figures.waveform_path(sound.samples, duration_s, sound.rate_hz)
        drawn = SoundFigure(
            wave,
            100 * sound.duration_s / duration_s,
            figures.peak_dbfs(sound.samples),
            figures.frequency_ticks(sound.rate_hz),
            sound.is_cut,
        )
    return Evidence(
        start_s,
        duration_s,
        figures.time_ticks(duration_s),
        figures.event_span(file.event, start_s, duration_s),
        bands.lay_out(picture, start_s, duration_s) if picture else None,
        drawn,
        figures.track_lines(track, duration_s, file.line.label) if track else (),
        problems,
    )


def _sound(declared: DeclaredObject | None, open_sealed: Opener, cap_s: float, problems: list[str]) -> Sound | None:
    if declared is None or declared.blob_key is None:
        problems.append("The device sent no masked sound with this event.")
        return None
    try:
        return read_sound(io.BytesIO(open_sealed(declared)), cap_s)
    except (SoundError, *_NOT_OPENED) as error:
        problems.append(f"No picture of the clip: {error}.")
        return None


def _picture(file: CaseFile, open_sealed: Opener, problems: list[str]) -> ThirdOctavePicture | None:
    """What the device drew, where the household lets it send that."""
    declared = held_at(file, PICTURE_TIER)
    if declared is None:
        return None
    try:
        return ThirdOctavePicture.from_bytes(open_sealed(declared))
    except (WireError, *_NOT_OPENED) as error:
        problems.append(f"The device's picture cannot be read: {error}.")
        return None


def _track(file: CaseFile, open_sealed: Opener, problems: list[str]) -> ScoreTrack | None:
    declared = file.object_at(SCORE_TRACK_TIER)
    if declared is None or declared.blob_key is None:
        problems.append("The device sent no score track with this event.")
        return None
    try:
        return ScoreTrack.from_bytes(open_sealed(declared))
    except (WireError, *_NOT_OPENED) as error:
        problems.append(f"The score track cannot be read: {error}.")
        return None
