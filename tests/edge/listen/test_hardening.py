import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from earmark_edge.listen.hardening import _unwritten_code, give_back_memory
from earmark_edge.scorer import Scorer

LIBRARY = """\
7f00-7f10 r--p 00000000 08:01 77 /usr/lib/libfoo.so
Anonymous:             0 kB
7f10-7f40 r-xp 00001000 08:01 77 /usr/lib/libfoo.so
Rss:                 100 kB
Anonymous:             {written} kB
VmFlags: rd ex mr mw me
7f40-7f50 rw-p 00004000 08:01 77 /usr/lib/libfoo.so
Anonymous:             4 kB
7f50-7f60 r-xp 00000000 00:00 0
Anonymous:             0 kB
7ffe-7fff r-xp 00000000 00:00 0                                          [vdso]
Anonymous:             0 kB
"""


def test_only_code_that_lies_in_a_file_as_it_is_in_memory_is_dropped():
    assert list(_unwritten_code(LIBRARY.format(written=0))) == [(0x7F10, 0x30)]
    assert list(_unwritten_code(LIBRARY.format(written=4))) == []


def _resident(kind: str) -> int:
    """Kilobytes of this process that are resident."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(kind))
    return int(line.split()[1])


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="glibc's")
def test_memory_is_given_back_and_everything_goes_on_as_before(bundle):
    scorer, audio = Scorer(bundle), np.random.default_rng(0).normal(0, 0.1, (1, 32_000)).astype(np.float32)
    before = scorer.run(audio)
    code_kb = _resident("RssFile")
    give_back_memory()
    assert _resident("RssFile") < code_kb
    after = scorer.run(audio)
    assert np.array_equal(before.clip, after.clip)
    assert np.array_equal(before.frame, after.frame)


def test_what_sends_brings_no_command_line_with_it():
    """6 MB of them, beside what a listening device has anyway; where they are loaded already, they stay."""
    script = "import sys; from earmark_edge.uplink import import_httpx; import_httpx().Client().close(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "httpx" in loaded
    assert not {"click", "rich", "pygments"} & set(loaded)
    beside = subprocess.run([sys.executable, "-c", f"import click; {script}"], capture_output=True, text=True, check=True).stdout.split()
    assert "click" in beside
