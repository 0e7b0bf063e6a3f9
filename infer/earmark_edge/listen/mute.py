"""Mute: a file, a signal or a switch on a GPIO line; any one of them is enough, and what cannot be told counts as muted."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from earmark_edge.listen.source import InputError
from earmark_edge.oneline import one_line

logger = logging.getLogger(__name__)

MUTE_SIGNAL, UNMUTE_SIGNAL = "SIGUSR1", "SIGUSR2"
BY_FILE, BY_SIGNAL, BY_SWITCH = "file", "signal", "switch"


class Mute:
    """Whether to listen at all.

    `file`: muted while it exists. `line`: a switch, muted while it gives True. A signal mutes too; where `file` is set it is made, so that
    the mute outlives a restart.
    """

    def __init__(self, file: Path | None = None, line: Callable[[], bool] | None = None) -> None:
        self._file, self._line = file, line
        self._path = str(file)
        self._is_by_signal = False

    @property
    def reasons(self) -> tuple[str, ...]:
        """What mutes at present: some of file, signal, switch."""
        named = ((BY_FILE, self._by_file()), (BY_SIGNAL, self._is_by_signal), (BY_SWITCH, self._by_line()))
        return tuple(name for name, is_on in named if is_on)

    @property
    def is_on(self) -> bool:
        """Whether anything mutes."""
        return self._is_by_signal or self._by_file() or self._by_line()

    def on_signal(self) -> None:
        """Mute, until `off_signal`; asked twice is asked once."""
        self._is_by_signal = True
        if self._file is not None:
            try:
                self._file.touch()
            except OSError as error:
                logger.warning("muted by signal, until the next restart only: %s cannot be made (%s)", self._file, error.strerror)

    def off_signal(self) -> None:
        """End the mute of a signal, and of the file."""
        self._is_by_signal = False
        if self._file is not None:
            try:
                self._file.unlink(missing_ok=True)
            except OSError as error:
                logger.warning("still muted: %s cannot be removed (%s)", self._file, error.strerror)

    def catch_signals(self) -> None:
        """SIGUSR1 mutes, SIGUSR2 ends that; to be called in the main thread."""

        def caught(number: int, _: FrameType | None) -> None:
            (self.on_signal if number == signal.SIGUSR1 else self.off_signal)()

        signal.signal(signal.SIGUSR1, caught)
        signal.signal(signal.SIGUSR2, caught)

    def _by_file(self) -> bool:
        if self._file is None:
            return False
        try:
            os.lstat(self._path)  # asked several times for each block, and pathlib takes three times as long
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True  # it cannot be told, and mute wins
        return True

    def _by_line(self) -> bool:
        if self._line is None:
            return False
        try:
            return bool(self._line())
        except Exception:  # any failure of the switch's library mutes
            logger.exception("the mute switch could not be read and counts as on")
            return True


def gpio_line(pin: int) -> Callable[[], bool]:
    """A switch between GPIO `pin` (Broadcom's number) and ground: True while it is closed.

    Raises:
        InputError: gpiozero or a driver for the pins is not installed, or there is no such pin.
    """
    try:
        import gpiozero  # noqa: PLC0415 - on devices with a switch only
    except ImportError as error:
        msg = f"a mute switch needs gpiozero ({error}): pip install 'earmark[gpio]'"
        raise InputError(msg) from error
    try:
        with warnings.catch_warnings(action="ignore"):  # one for each driver that is not there, ahead of the one line that says it
            button = gpiozero.Button(pin, pull_up=True)
    except Exception as error:  # gpiozero's drivers raise what they like
        msg = (
            f"EARMARK_MUTE_GPIO: line {pin} cannot be used as a mute switch ({one_line(error)}); is this user in the group gpio, "
            "is a driver (lgpio) installed, and has this machine such a line? Leave it unset to go without a switch"
        )
        raise InputError(msg) from error

    def is_closed() -> bool:
        return bool(button.is_pressed)

    return is_closed
