"""What time it is, and how far that can be trusted."""

from __future__ import annotations

import ctypes
import platform
from dataclasses import dataclass

UNSYNCHRONISED_S = 86_400.0
"""The uncertainty that is stated where nothing disciplines the clock: a device without a battery may wake up a day ago."""
_TIME_ERROR = 5
_MICROSECONDS = 1e6


class _Timex(ctypes.Structure):
    """`struct timex` of the kernel's adjtimex(2), as far as the estimates; the rest is room."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("room", ctypes.c_byte * 256),
    )


@dataclass(frozen=True, slots=True)
class ClockState:
    """Whether the kernel's clock is disciplined (by NTP or the like), and by how much it may be off at most."""

    is_synchronised: bool
    uncertainty_s: float


def clock_state() -> ClockState:
    """Ask the kernel; where it cannot be asked, the clock counts as unsynchronised."""
    if platform.system() != "Linux":
        return ClockState(is_synchronised=False, uncertainty_s=UNSYNCHRONISED_S)
    timex = _Timex()
    state = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    if state in {-1, _TIME_ERROR}:
        return ClockState(is_synchronised=False, uncertainty_s=UNSYNCHRONISED_S)
    return ClockState(is_synchronised=True, uncertainty_s=timex.maxerror / _MICROSECONDS)
