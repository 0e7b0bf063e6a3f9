"""What a process asks of the system: no core dump, no sound left in freed memory, and to take back what it no longer uses."""

from __future__ import annotations

import ctypes
import gc
import logging
import platform
import re
import resource
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

_PR_SET_DUMPABLE = 4
_MADV_DONTNEED = 4
_M_PERTURB, _FILL = -6, 0x5A  # of glibc's mallopt
_MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ (\d+) +(\S.*)?$")


def refuse_core_dumps() -> None:
    """No core of this process and its children: not to a file (the limit), nor to a collector such as systemd-coredump (not dumpable)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if soft:
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if platform.system() == "Linux" and ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        logger.warning("core dumps are bounded to nothing, but a collector may still get one")


def overwrite_freed_memory() -> None:
    """From now on what is freed is overwritten, so that sound that was heard does not outlive its last use. Does nothing without glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or not mallopt(_M_PERTURB, _FILL):
        logger.warning("what is freed is not overwritten here: no glibc")


def give_back_memory() -> None:
    """Hand back memory that is not needed any more: what was freed, which glibc keeps, and code that ran once, at a start or a load.

    After a graph is loaded the first is 5 MB; the second is 15 MB of libraries, whose pages come again from the system's cache of files
    where they are wanted. Does nothing under another C library or system.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()  # what is alive now mostly stays, and need not be looked through again each time that a few objects were made
    libc = ctypes.CDLL(None)
    trim = getattr(libc, "malloc_trim", None)
    if trim is not None:
        trim(0)
    if platform.system() == "Linux":
        for start, length in _unwritten_code(Path("/proc/self/smaps").read_text(encoding="utf-8")):
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _MADV_DONTNEED)


def _unwritten_code(smaps: str) -> Iterator[tuple[int, int]]:
    """Address and length of each mapping of a library's code of which no page differs from the file: dropped pages are read again."""
    found: tuple[int, int] | None = None
    for line in smaps.splitlines():
        if mapping := _MAPPING.match(line):
            start, end, rights, inode, _name = mapping.groups()
            is_code = rights == "r-xp" and inode != "0"
            found = (int(start, 16), int(end, 16) - int(start, 16)) if is_code else None
        elif found and line.startswith("Anonymous:"):
            if line.split()[1] == "0":
                yield found
            found = None
