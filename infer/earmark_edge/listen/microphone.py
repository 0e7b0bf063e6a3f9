"""A sound card as a source, through PortAudio. sounddevice is imported only when a microphone is opened."""

from __future__ import annotations

import queue
import threading
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from earmark_edge.listen.source import BLOCK_S, Resampler, Samples, SourceError
from earmark_edge.oneline import one_line

_HELD_BLOCKS = 50
"""Blocks that wait between PortAudio's thread and ours, five seconds; beyond that the newest are lost, and told."""


class MicrophoneSource:
    """The microphone `device`: a part of its name, its number, or None for the system's own choice.

    It runs at the model's rate where the card can, otherwise at the card's own and is resampled here. Opening it again looks for devices
    anew, so a card that was unplugged is found when it is back.
    """

    is_live = True
    _open: ClassVar[set[int]] = set()
    """The open microphones of this process, by identity."""
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, sample_rate_hz: int, device: str | None = None) -> None:
        self.name = f"microphone {one_line(device, 60)}" if device else "microphone"
        self._device: str | int | None = int(device) if device and device.isdigit() else device
        self._rate_hz = sample_rate_hz
        self._blocks: queue.Queue[Samples] = queue.Queue(_HELD_BLOCKS)
        self._stream: Any = None
        self._resampler: Resampler | None = None
        self._has_finished = threading.Event()
        self.lost_blocks = 0

    def open(self) -> None:
        """Start the card."""
        self.close()
        sounddevice = load_sounddevice()
        with self._lock:
            if not self._open:  # PortAudio reads the list of devices once, when it starts
                sounddevice._terminate()  # noqa: SLF001 - the documented way to have it read again
                sounddevice._initialize()  # noqa: SLF001
            self._blocks, self._has_finished = queue.Queue(_HELD_BLOCKS), threading.Event()
            try:
                rate_hz = self._card_rate(sounddevice)
                self._resampler = Resampler(rate_hz, self._rate_hz)
                self._stream = sounddevice.InputStream(
                    samplerate=rate_hz,
                    blocksize=round(BLOCK_S * rate_hz),
                    device=self._device,
                    channels=1,
                    dtype="float32",
                    callback=self._heard,
                    finished_callback=self._has_finished.set,
                )
                self._stream.start()
            except (sounddevice.PortAudioError, ValueError) as error:
                self._stream = None
                msg = f"{self.name}: cannot be opened ({one_line(error)}); `earmark edge doctor` lists the microphones"
                raise SourceError(msg) from error
            self._open.add(id(self))

    def read(self, timeout_s: float) -> Samples | None:
        """The next tenth of a second."""
        if self._resampler is None:
            msg = f"{self.name}: not open"
            raise SourceError(msg)
        try:
            return self._resampler.feed(self._blocks.get(timeout=timeout_s))
        except queue.Empty:
            if self._has_finished.is_set():
                msg = f"{self.name}: the card stopped; was it unplugged?"
                raise SourceError(msg) from None
            return None

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

    def _heard(self, block: Samples, frames: int, time: object, status: object) -> None:
        """PortAudio's thread: copy and go."""
        del frames, time, status
        try:
            self._blocks.put_nowait(np.array(block[:, 0], np.float32))
        except queue.Full:
            self.lost_blocks += 1


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
