"""What a process asks of the system that it runs in: to write no core dump, and to take back memory that it no longer uses."""

from __future__ import annotations

import ctypes
import gc
import logging
import platform
import resource

logger = logging.getLogger(__name__)

_PR_SET_DUMPABLE = 4


def refuse_core_dumps() -> None:
    """No core of this process and its children: not to a file (the limit), nor to a collector such as systemd-coredump (not dumpable)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if soft:
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if platform.system() == "Linux" and ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        logger.warning("core dumps are bounded to nothing, but a collector may still get one")


def give_back_memory() -> None:
    """Hand freed memory back (glibc keeps it); after a graph is loaded that is 5 MB. Does nothing under another C library."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
