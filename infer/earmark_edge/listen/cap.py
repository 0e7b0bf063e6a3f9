"""How much audio may leave in a flood of events: the cap falls on audio, never on an event and never on the first of an incident. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Grant:
    """What an event may take with it, and the incident that it belongs to."""

    incident: int
    with_audio: bool


class AudioCap:
    """A bucket of `audio_s_per_hour` seconds of audio that refills over an hour.

    While it is empty, events leave without audio and belong to one incident, however far apart they lie: a flood is one case to look at.
    A new incident therefore always begins with its audio.

    >>> cap = AudioCap(60.0)
    >>> [cap.take(second, 40.0, incident) for second, incident in ((0.0, 0), (50.0, 1), (100.0, 2))]
    [Grant(incident=0, with_audio=True), Grant(incident=1, with_audio=True), Grant(incident=1, with_audio=False)]
    """

    def __init__(self, audio_s_per_hour: float) -> None:
        if not 0 < audio_s_per_hour < float("inf"):
            msg = f"the cap on audio must be more than 0 seconds per hour, got {audio_s_per_hour}"
            raise ValueError(msg)
        self._most_s = self._left_s = audio_s_per_hour
        self._at_s = 0.0
        self._given: int | None = None
        self._incident = -1

    def take(self, at_s: float, duration_s: float, incident: int) -> Grant:
        """The event that ends at `at_s` on the stream's clock; `incident` as the detector counts, in order."""
        self._left_s = min(self._most_s, self._left_s + max(0.0, at_s - self._at_s) * self._most_s / 3_600)
        self._at_s = max(self._at_s, at_s)
        has_audio = self._left_s > 0
        if incident != self._given and has_audio:
            self._incident += 1
        self._given = incident
        if has_audio:
            self._left_s -= duration_s
        return Grant(self._incident, has_audio)
