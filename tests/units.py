"""What systemd says of our units."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

NEEDS_SYSTEMD = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")


def assert_exposure_at_most(unit: Path, tenths: int) -> None:
    """`systemd-analyze security` rates the unit no worse than that, of 100, and knows every line of it."""
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={tenths}", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout[-300:]
    assert "Overall exposure level" in done.stdout
    assert "Unknown" not in done.stderr + done.stdout
