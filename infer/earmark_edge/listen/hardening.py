"""Keeps what is heard out of files that the system itself would write: core dumps."""

from __future__ import annotations

import ctypes
import logging
import platform
import resource

logger = logging.getLogger(__name__)

_PR_SET_DUMPABLE = 4


def refuse_core_dumps() -> None:
    """No core of this process and its children: not to a file (the limit), nor to a collector such as systemd-coredump (not dumpable)."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if platform.system() == "Linux" and ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        logger.warning("core dumps are bounded to nothing, but a collector may still get one")
