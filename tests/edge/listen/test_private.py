"""What a listening device lets out: nothing but to its service, and nothing into a core dump."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from bench.traces import Traces, memory_of
from tests.edge.listen import test_process
from tests.edge.listen.test_process import RATE_HZ, Process

ROOT = Path(__file__).resolve().parents[3]


def _may_unshare():
    tools = shutil.which("unshare") and shutil.which("ip")
    return bool(tools) and subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not _may_unshare(), reason="a network namespace needs root, util-linux and iproute2")
def test_no_packet_goes_anywhere_but_to_the_service_and_none_holds_what_was_not_flagged(tmp_path):
    command = ["unshare", "-n", sys.executable, "-m", "tests.edge.listen.namespace", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["status"] == 0
    assert found["control"] > 0  # what goes elsewhere is seen
    assert (found["events"], found["clips"] > 0, found["loopback"] > 20) == (1, True, True)
    assert found["wire"] == 0
    assert found["strangers"] == 0
    assert found["overlooked"] == 0
    assert found["planted"] == 0


def _aborted(process):
    """Whether a core was dumped when `process` was aborted."""
    process.send_signal(signal.SIGABRT)
    _, status = os.waitpid(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == -signal.SIGABRT
    return os.WCOREDUMP(status)


UNBOUNDED = "import os, resource; resource.setrlimit(resource.RLIMIT_CORE, (-1, -1)); os.chdir({!r}); "


def test_an_abort_dumps_no_core_though_the_system_would_take_one(bundle, tmp_path, monkeypatch):
    """The hard limit stays without bound: it is the process itself that refuses. Root may still read its memory, as that of any process."""
    freely = UNBOUNDED.format(str(tmp_path))
    control = subprocess.Popen([sys.executable, "-c", freely + "print(flush=True); import time; time.sleep(60)"], stdout=subprocess.PIPE)
    assert control.stdout is not None
    control.stdout.readline()
    assert _aborted(control), "the kernel dumps no core here, so that this test cannot fail; set kernel.core_pattern to a file"
    control.stdout.close()
    for core in tmp_path.glob("core*"):
        core.unlink()
    monkeypatch.setattr(
        test_process, "COMMAND", [sys.executable, "-c", freely + "from earmark_cli.main import main; main()", "edge", "listen", "--json"]
    )
    running = Process("-", "--rate", "16000", "--bundle", str(bundle), home=tmp_path, stdin=subprocess.PIPE)
    running.process.stdin.write(np.full(4 * RATE_HZ, 1_234, "<i2").tobytes())
    running.process.stdin.flush()
    running.wait_for(test_process.is_listening, 60)
    time.sleep(0.3)
    assert not _aborted(running.process)
    running.process.stdin.close()
    running.end()
    assert not list(tmp_path.glob("core*"))


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="reading a process's memory needs Linux and root")
def test_muting_leaves_no_more_than_the_last_window_in_memory_even_in_what_was_freed(bundle, tmp_path):
    """The ring, the windows and what is waited for are overwritten, and so is every copy that was freed while it heard."""
    pcm = np.random.default_rng(7).integers(-900, 900, 30 * RATE_HZ).astype("<i2")
    every = RATE_HZ // 20
    sound = Traces.of("sound", [(pcm / np.float32(32_768)).astype(np.float32)], every)
    running = Process("-", "--rate", "16000", "--bundle", str(bundle), home=tmp_path, stdin=subprocess.PIPE, EARMARK_STATUS_S="0.1")
    running.process.stdin.write(pcm.tobytes())
    running.process.stdin.flush()
    status, until = tmp_path / "state" / "status.json", time.monotonic() + 60
    while not (status.exists() and json.loads(status.read_text())["streams"][0]["heard_s"] >= 29) and time.monotonic() < until:
        time.sleep(0.1)
    held = sound.found_in(memory_of(running.process.pid), is_memory=True)
    running.process.send_signal(signal.SIGUSR1)
    running.wait_for(lambda line: line["type"] == "mute")
    left = sound.found_in(memory_of(running.process.pid), is_memory=True)
    running.process.stdin.close()
    assert running.end() == 0
    assert held > len(sound.keys) // 2  # the search finds what is there
    assert left <= 2 * RATE_HZ // every
