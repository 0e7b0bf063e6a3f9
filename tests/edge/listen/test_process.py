"""`earmark edge listen` as it is started in a home: a process of its own, real pipes, real signals."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from tests.edge.device import consented, enrolled

from earmark_edge.listen.microphone import load_sounddevice
from earmark_edge.listen.source import SourceError
from earmark_edge.outbox import wav_bytes
from earmark_edge.signature import public_of

RATE_HZ = 16_000
COMMAND = [sys.executable, "-m", "earmark_cli.main", "edge", "listen", "--json"]


class Process:
    """The running command; its lines are read by a thread."""

    def __init__(self, *arguments, home, stdin=subprocess.DEVNULL, **environment):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("EARMARK_")}
        settings = {"EARMARK_STATE": str(home / "state"), "HOME": str(home), "TMPDIR": str(home / "tmp"), "OMP_NUM_THREADS": "1"}
        (home / "tmp").mkdir(exist_ok=True)
        self.home = home
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=stdin is not subprocess.PIPE,
            env={**inherited, **settings, **environment},
        )
        self.lines, self.errors = [], []
        self._threads = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.lines)),
            threading.Thread(target=self._read, args=(self.process.stderr, self.errors)),
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, stream, lines):
        for line in stream:
            lines.append(line if isinstance(line, str) else line.decode())

    @property
    def said(self):
        return [json.loads(line) for line in list(self.lines)]

    def wait_for(self, holds, seconds=60):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if found := [each for each in self.said if holds(each)]:
                return found[-1]
            assert self.process.poll() is None or self.lines, "".join(self.errors)
            time.sleep(0.03)
        raise AssertionError((self.lines, self.errors))

    def end(self, number=signal.SIGTERM, seconds=60):
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(seconds)
        for thread in self._threads:
            thread.join(5)
        for pipe in (self.process.stdout, self.process.stderr):
            pipe.close()
        return self.process.returncode

    @property
    def status(self):
        return json.loads((self.home / "state" / "status.json").read_text())


def is_listening(line):
    return line["type"] == "source" and line["state"] == "listening"


@pytest.fixture
def recording(tmp_path, play):
    path = tmp_path / "evening.wav"
    noise = np.random.default_rng(0).normal(0, 0.001, 60 * RATE_HZ).astype(np.float32)
    path.write_bytes(wav_bytes(noise + play(("", 1), ("scream", 2), ("", 57)), RATE_HZ))
    return path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order_and_what_was_open_is_kept(bundle, recording, tmp_path, number):
    running = Process(str(recording), "--bundle", str(bundle), home=tmp_path)
    running.wait_for(is_listening)
    time.sleep(2.2)  # inside the scream
    limits = Path(f"/proc/{running.process.pid}/limits").read_text()
    assert limits.partition("Max core file size")[2].split()[0] == "0"
    assert running.end(number) == 0, running.errors
    (event,) = [line for line in running.said if line["type"] == "event"]
    assert event["label"] == "scream"
    assert running.status["is_running"] is False
    assert oct((tmp_path / "state").stat().st_mode)[-3:] == "700"
    assert oct((tmp_path / "state" / "status.json").stat().st_mode)[-3:] == "600"


def test_mute_by_signal_and_by_file_is_told_and_metrics_say_so(bundle, recording, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running = Process(str(recording), "--bundle", str(bundle), home=tmp_path, EARMARK_METRICS_PORT=str(port))
    try:
        running.wait_for(is_listening)
        running.process.send_signal(signal.SIGUSR1)
        assert running.wait_for(lambda line: line["type"] == "mute")["by"] == ["file", "signal"]
        answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
        assert "\nearmark_muted 1\n" in answer
        request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Host": f"evil.example:{port}"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=5)
        refused.value.close()
        running.process.send_signal(signal.SIGUSR2)
        running.wait_for(lambda line: line["type"] == "mute" and not line["by"])
    finally:
        assert running.end() == 0


def test_pcm_on_standard_input_gives_the_events_of_the_file(bundle, recording, tmp_path):
    running = Process("-", "--rate", "16000", "--bundle", str(bundle), home=tmp_path, stdin=subprocess.PIPE)
    running.process.stdin.write(recording.read_bytes()[44:])
    running.process.stdin.close()
    running.process.wait(60)
    assert running.end() == 0
    (event,) = [line for line in running.said if line["type"] == "event" and not line["canary"]]
    assert event["onset_s"] == pytest.approx(1.0, abs=0.3)
    assert any(line.get("canary") for line in running.said)  # 60 s were heard, and the first canary comes after 10


def test_what_is_flagged_reaches_the_service_sealed_and_a_canary_does_not(bundle, tmp_path, play, service):
    state = tmp_path / "state"
    service.device = public_of(enrolled(state, service.url).device_key)
    consented(state)
    sound = np.concatenate([play(("speech", 4), ("scream", 2), ("", 30)), play(("", 10))])
    running = Process("-", "--rate", "16000", "--send", home=tmp_path, stdin=subprocess.PIPE, EARMARK_BUNDLE=str(bundle))
    running.process.stdin.write((sound * 32_767).astype("<i2").tobytes())
    running.process.stdin.flush()
    until = time.monotonic() + 60
    while not any(max(held, default=0) > 1 for held in service.clips.values()) and time.monotonic() < until:
        time.sleep(0.05)
    running.wait_for(lambda line: line.get("canary") or line["type"] == "canary_missed")
    running.process.send_signal(signal.SIGKILL)  # what was sealed is on the disk, what was sent is not sent again
    running.process.stdin.close()
    running.end()
    again = Process("-", "--rate", "16000", "--send", home=tmp_path, stdin=subprocess.PIPE, EARMARK_BUNDLE=str(bundle))
    again.process.stdin.write(bytes(64_000))
    again.process.stdin.flush()
    again.wait_for(is_listening)
    until = time.monotonic() + 60
    while len({beat.boot_id for beat in service.heartbeats}) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    again.process.stdin.close()
    assert again.end() == 0
    (event_id,) = service.events
    event = json.loads(service.events[event_id])
    assert (event["label"], event["consent_id"], event["incident"]) == ("scream", "consent-7", 0)
    audio = service.opened(event_id, max(service.clips[event_id]))  # masked or original, as consent and policy have it
    assert audio.startswith(b"RIFF")
    assert len(audio) < 4 * 2 * RATE_HZ  # the scream, and not the talk before it
    assert service.heartbeats
    assert service.heartbeats[0].config_sha256 == event["config_sha256"]
    assert len({beat.boot_id for beat in service.heartbeats}) == 2


def test_a_signal_that_comes_while_it_ends_by_itself_ends_it_in_order_too(bundle, tmp_path):
    for wait_s in (0.0, 0.05, 0.1, 0.15, 0.2, 0.3):
        running = Process("-", "--rate", "16000", "--bundle", str(bundle), home=tmp_path, stdin=subprocess.PIPE)
        running.process.stdin.write(bytes(64_000))
        running.process.stdin.flush()
        running.wait_for(is_listening)
        running.process.stdin.close()
        time.sleep(wait_s)
        assert running.end() == 0


def test_no_sample_is_written_anywhere_but_to_memory(bundle, tmp_path):
    """A stretch of marked samples, loud enough to be flagged, then every byte of state, temporary files and logs is looked at."""
    rng = np.random.default_rng(7)
    marker = rng.integers(-9_000, 9_000, RATE_HZ // 2).astype("<i2")
    time_s = np.arange(3 * RATE_HZ) / RATE_HZ
    scream = (9_000 * np.sin(2 * np.pi * 3_000 * time_s)).astype("<i2")
    pcm = np.concatenate([marker, scream, marker, np.zeros(30 * RATE_HZ, "<i2"), marker])
    running = Process("-", "--rate", "16000", "--bundle", str(bundle), home=tmp_path, stdin=subprocess.PIPE, EARMARK_STATUS_S="0.1")
    running.process.stdin.write(pcm.tobytes())
    running.process.stdin.flush()
    running.wait_for(lambda line: line["type"] == "event")
    running.process.send_signal(signal.SIGUSR1)
    running.wait_for(lambda line: line["type"] == "mute")
    open_files = [str(link.readlink()) for link in Path(f"/proc/{running.process.pid}/fd").iterdir() if link.exists()]
    running.process.stdin.close()
    assert running.end() == 0
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert (tmp_path / "state" / "status.json") in files
    logs = "".join(running.lines + running.errors).encode()
    forms = [kind for piece in (marker, scream) for kind in _forms(piece)]
    for content in (logs, *(path.read_bytes() for path in files)):
        assert not [form for form in forms if form in content]
    assert any(form in pcm.tobytes() for form in forms)  # the search finds what is there
    assert all(name.startswith(("pipe:", "socket:", "/dev/", "anon_inode:")) or str(tmp_path) in name for name in open_files), open_files
    assert {path.name for path in (tmp_path / "state").iterdir()} == {"status.json", "mute"}


def _forms(piece):
    """Eight samples from its middle as they might lie in a file: 16-bit, float, text."""
    part = piece[len(piece) // 2 :][:8]
    floats = (part / np.float32(32_768)).astype(np.float32)
    return [
        part.tobytes(),
        part.byteswap().tobytes(),
        floats.tobytes(),
        floats.astype(np.float64).tobytes(),
        ",".join(map(str, part.tolist())).encode(),
        ", ".join(map(str, floats.tolist())).encode(),
    ]


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["-"], {}, "--rate"),
        (["nowhere.wav"], {}, "no such file"),
        (["--send"], {}, "not enrolled"),
        ([], {"EARMARK_STALL_S": "0"}, "EARMARK_STALL_S"),
        ([], {"EARMARK_CANARY_S": "3"}, "EARMARK_CANARY_S"),
        ([], {"EARMARK_MUTE_GPIO": "17", "GPIOZERO_PIN_FACTORY": "none of them"}, "EARMARK_MUTE_GPIO: line 17"),
    ],
)
def test_what_cannot_work_is_refused_at_once_with_what_to_do(bundle, tmp_path, arguments, environment, said):
    running = Process(*arguments, "--bundle", str(bundle), home=tmp_path, **environment)
    running.process.wait(60)
    assert running.end() == 2
    assert said in "".join(running.errors)


ALSA = "/usr/share/alsa/alsa.conf"


def _has_portaudio():
    try:
        load_sounddevice()
    except SourceError:
        return False
    return Path(ALSA).exists()


@pytest.mark.skipif(not _has_portaudio(), reason="PortAudio or ALSA's configuration is not installed")
def test_a_microphone_is_heard_through_portaudio(bundle, tmp_path, play, monkeypatch):
    """ALSA's file plugin is a sound card that plays a file into PortAudio."""
    (tmp_path / "room.raw").write_bytes(np.tile(play(("", 2), ("scream", 2), ("", 4)), 4).astype("<f4").tobytes())
    plugin = f'type file slave.pcm "null" file "/dev/null" infile "{tmp_path}/room.raw" format "raw"'
    (tmp_path / "asound.conf").write_text(f'pcm.fake {{ {plugin} hint {{ show on description "fake" }} }}\n')
    # As the systemd unit has it: no memory that is writable and executable at once (a kernel older than 6.3 refuses to promise that).
    denied = "import ctypes; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0); from earmark_cli.main import main; main()"
    monkeypatch.setattr(sys.modules[__name__], "COMMAND", [sys.executable, "-c", denied, "edge", "listen", "--json"])
    running = Process("bed=mic:fake", "--bundle", str(bundle), home=tmp_path, ALSA_CONFIG_PATH=f"{ALSA}:{tmp_path}/asound.conf")
    try:
        event = running.wait_for(lambda line: line["type"] == "event" and not line["canary"])
    finally:
        status = running.end()
    assert status == 0
    assert (event["stream"], event["label"]) == ("bed", "scream")


def test_a_microphone_that_is_not_there_is_told_and_waited_for(bundle, tmp_path):
    running = Process("mic:no such card", "--bundle", str(bundle), home=tmp_path)
    try:
        down = running.wait_for(lambda line: line["type"] == "source" and line["state"] == "down")
    finally:
        assert running.end() == 0
    assert "opened again" in down["text"]
    assert running.status["streams"][0]["failures"] >= 1


def test_a_disk_that_is_full_does_not_end_the_listening(bundle, recording, tmp_path):
    if os.geteuid() == 0 and not Path("/dev/full").exists():
        pytest.skip("no full device here")
    (tmp_path / "state").mkdir()
    running = Process(str(recording), "--bundle", str(bundle), home=tmp_path, EARMARK_STATUS_S="0.1")
    running.wait_for(is_listening)
    for path in (tmp_path / "state").iterdir():
        path.unlink()
    (tmp_path / "state").rmdir()  # writing fails from now on
    running.wait_for(lambda line: line["type"] == "event")
    assert running.end() == 0
    assert sum("status file cannot be written" in line for line in running.errors) == 1
