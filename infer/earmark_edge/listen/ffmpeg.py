"""Anything that ffmpeg opens as a source: RTSP cameras, HTTP streams, sound cards, files. One subprocess per source."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
from urllib.parse import urlsplit

import numpy as np

from earmark_edge.listen.source import BLOCK_S, InputError, PcmDecoder, PcmFormat, Samples, SourceEndedError, SourceError
from earmark_edge.oneline import one_line

_LAST_WORDS = 2_000
_PATIENCE_S = 2.0


class FfmpegSource:
    """The first audio stream at `address`, mixed to mono and brought to the model's rate by ffmpeg.

    `address` is anything behind `-i`; `input_options` stand before it, such as `-f alsa`. RTSP is asked for over TCP, where a lost packet
    is sent again.

    Raises:
        InputError: the address is empty or would be read as an option.
    """

    def __init__(self, address: str, sample_rate_hz: int, *, input_options: tuple[str, ...] = (), is_live: bool = True) -> None:
        if not address.strip() or address.startswith("-"):
            msg = f"{address!r} is no address that ffmpeg could open"
            raise InputError(msg)
        self.name = redacted(address)
        self.is_live = is_live
        self._address, self._rate_hz = address, sample_rate_hz
        rtsp = ("-rtsp_transport", "tcp") if address.lower().startswith("rtsp") else ()
        self._options = (*rtsp, *input_options)
        self._process: subprocess.Popen[bytes] | None = None
        self._decoder = PcmDecoder(PcmFormat(sample_rate_hz, encoding="f32le"), sample_rate_hz)
        self._last_words = b""

    @property
    def pid(self) -> int | None:
        """The subprocess, while there is one."""
        return self._process.pid if self._process else None

    def open(self) -> None:
        """Start ffmpeg; whether the address answers shows at the first `read`."""
        program = shutil.which("ffmpeg")
        if program is None:
            msg = "ffmpeg is not installed; get it with: sudo apt install ffmpeg"
            raise SourceError(msg)
        self.close()
        self._decoder = PcmDecoder(PcmFormat(self._rate_hz, encoding="f32le"), self._rate_hz)
        self._last_words = b""
        quiet = ("-nostdin", "-hide_banner", "-loglevel", "error")
        # -vn: no picture is even decoded. Flushing each packet keeps what is heard as fresh as it can be.
        output = ("-map", "0:a:0", "-vn", "-ac", "1", "-ar", str(self._rate_hz), "-flush_packets", "1", "-f", "f32le", "pipe:1")
        try:
            self._process = subprocess.Popen(  # noqa: S603 - a list of arguments, no shell
                [program, *quiet, *self._options, "-i", self._address, *output],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for us; we end ffmpeg in order
            )
        except OSError as error:
            msg = f"{self.name}: ffmpeg cannot be started ({error.strerror})"
            raise SourceError(msg) from error

    def read(self, timeout_s: float) -> Samples | None:
        """What ffmpeg has decoded, up to a quarter of a second."""
        process = self._process
        if process is None or process.stdout is None or process.stderr is None:
            msg = f"{self.name}: not open"
            raise SourceError(msg)
        ready, _, _ = select.select([process.stdout, process.stderr], [], [], timeout_s)
        if process.stderr in ready:
            words = os.read(process.stderr.fileno(), _LAST_WORDS)
            self._last_words = (self._last_words + words)[-_LAST_WORDS:]
            if not words and process.stdout not in ready:
                return self._rest(process)  # it closed its stderr: it is ending
        if process.stdout not in ready:
            return None
        data = os.read(process.stdout.fileno(), round(BLOCK_S * self._rate_hz) * 4)
        return self._decoder.feed(data) if data else self._rest(process)

    def close(self) -> None:
        """End ffmpeg, first in order, then by force."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()

    def _rest(self, process: subprocess.Popen[bytes]) -> Samples:
        """The process has ended: by itself at the end of what it read, or broken."""
        if process.stdout and (data := os.read(process.stdout.fileno(), 1 << 16)):
            return self._decoder.feed(data)
        try:
            status = process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            return np.zeros(0, np.float32)
        if process.stderr:
            self._last_words += process.stderr.read() or b""
        if status == 0:
            msg = f"{self.name}: the stream ended"
            raise (SourceError if self.is_live else SourceEndedError)(msg)
        said = self._last_words.decode(errors="replace").strip().splitlines()
        last = one_line(said[-1].replace(self._address, self.name)) if said else f"status {status}"
        msg = f"{self.name}: ffmpeg ended ({last})"
        raise SourceError(msg)


def redacted(address: str) -> str:
    """An address without user, password, query and fragment, as it may be shown and logged.

    >>> redacted("rtsp://admin:secret@camera.local:554/audio?token=1")
    'rtsp://camera.local:554/audio'
    """
    try:
        parts = urlsplit(address)
    except ValueError:
        return "an address"
    if not parts.scheme or not parts.netloc:
        return one_line(address, 80)
    host = parts.netloc.rpartition("@")[2]
    return one_line(f"{parts.scheme}://{host}{parts.path}", 80)
