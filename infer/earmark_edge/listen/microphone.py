"""A sound card as a source, through PortAudio. sounddevice is imported only when a microphone is opened."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from earmark_edge.listen.source import BLOCK_S, Resampler, Samples, SourceError
from earmark_edge.oneline import one_line

logger = logging.getLogger(__name__)

_LATENCY_S = 0.5
"""What PortAudio is to hold while we score; what comes beyond that is lost."""
_LEAST_PAUSE_S = 0.005
_CARDS = Path("/proc/asound/cards")
"""What the kernel says of sound cards, asked without PortAudio; not there on other systems, where nothing is known of changes."""


class MicrophoneSource:
    """The microphone `device`: a part of its name, its number, or None for the system's own choice.

    It runs at the model's rate where the card can, otherwise at the card's own and is resampled here. Opening it again looks for devices
    anew, so a card that was unplugged is found when it is back. PortAudio can do so only while none is open: where one microphone is
    missing and a card was plugged in, the others break off for a moment and are opened again.

    Samples are fetched, not pushed: a callback from C would need memory that is writable and executable at once, which the systemd unit
    denies (MemoryDenyWriteExecute).
    """

    is_live = True
    _open: ClassVar[set[int]] = set()
    """The open microphones of this process, by identity."""
    _missing: ClassVar[set[int]] = set()
    """Those that could not be opened last."""
    _cards: ClassVar[str] = ""
    """The sound cards of the machine when PortAudio looked for them last."""
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, sample_rate_hz: int, device: str | None = None) -> None:
        self.name = f"microphone {one_line(device, 60)}" if device else "microphone"
        self._device: str | int | None = int(device) if device and device.isdigit() else device
        self._rate_hz = self._card_rate_hz = sample_rate_hz
        self._stream: Any = None
        self._resampler: Resampler | None = None
        self._is_losing = False

    def open(self) -> None:
        """Start the card."""
        self.close()
        sounddevice = load_sounddevice()
        with self._lock:
            if not self._open:  # PortAudio reads the list of devices once, when it starts
                sounddevice._terminate()  # noqa: SLF001 - the documented way to have it read again
                sounddevice._initialize()  # noqa: SLF001
                MicrophoneSource._cards = _cards_of_the_machine()
            self._missing.add(id(self))
            try:
                self._card_rate_hz = self._card_rate(sounddevice)
                self._resampler = Resampler(self._card_rate_hz, self._rate_hz)
                self._stream = sounddevice.InputStream(
                    samplerate=self._card_rate_hz, device=self._device, channels=1, dtype="float32", latency=_LATENCY_S
                )
                self._stream.start()
            except (sounddevice.PortAudioError, ValueError) as error:
                self._stream = None
                msg = f"{self.name}: cannot be opened ({one_line(error)}); `earmark edge doctor` lists the microphones"
                raise SourceError(msg) from error
            self._missing.discard(id(self))
            self._open.add(id(self))

    def read(self, timeout_s: float) -> Samples | None:
        """The next half second."""
        if self._stream is None or self._resampler is None:
            msg = f"{self.name}: not open"
            raise SourceError(msg)
        if self._missing and _cards_of_the_machine() != self._cards:
            msg = f"{self.name}: sound cards have changed, and another microphone is missing; all are looked for anew"
            raise SourceError(msg)
        sounddevice, block = load_sounddevice(), round(BLOCK_S * self._card_rate_hz)
        until_s = time.monotonic() + timeout_s
        try:
            while (missing := block - self._stream.read_available) > 0:
                left_s = until_s - time.monotonic()
                if left_s <= 0:
                    return None
                time.sleep(min(left_s, max(_LEAST_PAUSE_S, missing / self._card_rate_hz)))
            samples, has_lost = self._stream.read(block)
        except sounddevice.PortAudioError as error:
            msg = f"{self.name}: the card stopped ({one_line(error)}); was it unplugged?"
            raise SourceError(msg) from error
        if has_lost and not self._is_losing:
            logger.warning("%s: samples were lost, since they were not fetched in time", self.name)
        self._is_losing = bool(has_lost)
        return self._resampler.feed(samples[:, 0])

    def close(self) -> None:
        """Stop the card."""
        stream, self._stream = self._stream, None
        if stream is not None:
            with self._lock:
                self._open.discard(id(self))
                stream.abort(ignore_errors=True)
                stream.close(ignore_errors=True)

    def _card_rate(self, sounddevice: ModuleType) -> int:
        """The model's rate if the card takes it, else its own."""
        try:
            sounddevice.check_input_settings(device=self._device, channels=1, dtype="float32", samplerate=self._rate_hz)
        except sounddevice.PortAudioError:
            return int(sounddevice.query_devices(self._device, "input")["default_samplerate"])
        return self._rate_hz


def _cards_of_the_machine() -> str:
    try:
        return _CARDS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def load_sounddevice() -> ModuleType:
    """The sounddevice module.

    Raises:
        SourceError: it or PortAudio is not installed.
    """
    try:
        import sounddevice  # noqa: PLC0415 - optional, and loads PortAudio
    except (ImportError, OSError) as error:  # OSError: PortAudio is not there
        msg = (
            f"a microphone needs sounddevice and PortAudio ({one_line(error)}): pip install 'earmark[mic]', sudo apt install libportaudio2"
        )
        raise SourceError(msg) from error
    module: ModuleType = sounddevice
    return module
