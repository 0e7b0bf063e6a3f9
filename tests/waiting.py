"""Waiting for what other threads and processes do."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(holds: Callable[[], object], seconds: float = 15) -> None:
    """Look again and again until it holds; fail once so many seconds have gone by."""
    end_s = time.monotonic() + seconds
    while not holds() and time.monotonic() < end_s:
        time.sleep(0.005)
    assert holds(), f"it did not come to that within {seconds} s"
