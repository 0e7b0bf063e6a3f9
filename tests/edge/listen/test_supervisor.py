import contextlib
import os
import queue
import random
import shutil
import signal
import time

import numpy as np
import pytest
from tests.edge.listen.fakes import ScriptedSource

from earmark_edge.listen.ffmpeg import FfmpegSource
from earmark_edge.listen.health import HealthConfig, Problem
from earmark_edge.listen.inputs import Input
from earmark_edge.listen.mute import Mute
from earmark_edge.listen.run import _running
from earmark_edge.listen.settings import ListenSettings
from earmark_edge.listen.source import SourceError
from earmark_edge.listen.supervisor import Block, Notice, State, Supervisor, WatchConfig

RATE_HZ = 16_000
QUICK = WatchConfig(stall_s=0.15, first_wait_s=0.02, most_wait_s=0.05)
SOUND = np.linspace(-0.5, 0.5, 1_600, dtype=np.float32)


def watched(source, *, watch=QUICK, mute=None, until=lambda messages: False, seconds=10.0):
    """Everything a supervisor says until the source ends, or `until` holds."""
    out = queue.Queue()
    supervisor = Supervisor(0, source, out, sample_rate_hz=RATE_HZ, mute=mute or Mute(), watch=watch)
    supervisor.start()
    messages, end_s = [], time.monotonic() + seconds
    while time.monotonic() < end_s:
        with contextlib.suppress(queue.Empty):
            messages.append(out.get(timeout=0.05))
        if until(messages) or (messages and isinstance(messages[-1], Notice) and messages[-1].state is State.ENDED):
            break
    else:
        raise AssertionError(messages)
    supervisor.stop()
    supervisor.join(5)
    assert not supervisor.is_alive()
    return messages


def blocks_of(messages):
    return [message for message in messages if isinstance(message, Block)]


def states_of(messages):
    return [message.state for message in messages if isinstance(message, Notice)]


def test_a_source_is_read_to_its_end():
    source = ScriptedSource([SOUND, SOUND])
    messages = watched(source)
    assert [block.is_first for block in blocks_of(messages)] == [True, False]
    assert states_of(messages) == [State.STARTING, State.LISTENING, State.ENDED]
    assert not source.is_open


def test_a_source_that_stalls_is_opened_again_and_that_is_told():
    source = ScriptedSource([SOUND, *[None] * 25, SOUND])
    messages = watched(source)
    assert source.opened >= 2
    assert [block.is_first for block in blocks_of(messages)] == [True, True]
    down = next(message for message in messages if isinstance(message, Notice) and message.state is State.DOWN)
    assert "no samples for" in down.text
    assert down.is_failure
    assert sum(message.is_restart for message in messages if isinstance(message, Notice)) == source.opened - 1


def test_a_device_that_is_unplugged_and_plugged_in_again_comes_back():
    source = ScriptedSource([SOUND, SourceError("the card stopped"), SOUND])
    read = source.read

    def unplugged(timeout_s):
        try:
            return read(timeout_s)
        except SourceError as error:
            if "stopped" in str(error):
                source.fails_to_open = 4  # it stays away for a while
            raise

    source.read = unplugged
    messages = watched(source)
    assert len(blocks_of(messages)) == 2
    assert states_of(messages).count(State.DOWN) == 5


def test_what_nobody_foresaw_is_survived(caplog):
    messages = watched(ScriptedSource([SOUND, ZeroDivisionError(), SOUND]))
    assert len(blocks_of(messages)) == 2
    assert "not foreseen" in caplog.text


def test_standard_input_that_stalls_is_waited_for_and_what_follows_is_a_new_stream():
    source = ScriptedSource([SOUND, *[None] * 60, SOUND], is_live=False)
    messages = watched(source)
    assert source.opened == 1
    assert State.STALLED in states_of(messages)
    assert [block.is_first for block in blocks_of(messages)] == [True, True]


def test_a_live_source_that_gives_digital_silence_is_opened_again_and_less_often_with_time():
    silence = np.zeros(RATE_HZ, np.float32)
    source = ScriptedSource([silence] * 40)
    watch = WatchConfig(health=HealthConfig(silent_s=5))
    messages = watched(source, watch=watch)
    assert source.opened == 2
    assert Problem.SILENT in messages[-1].problems
    assert any("digital silence" in message.text for message in messages if isinstance(message, Notice))
    assert len(blocks_of(messages)) == 40


def test_waits_grow_and_are_bounded():
    watch, rng = WatchConfig(first_wait_s=1, most_wait_s=20), random.Random(0)
    waits = [watch.wait_s(failures, rng) for failures in range(1, 60)]
    assert all(0.5 * min(20, 2.0**index) <= wait <= min(20, 2.0**index) for index, wait in enumerate(waits))


@pytest.mark.parametrize("knob", ["stall_s", "first_wait_s", "most_wait_s", "sound_s"])
def test_a_watch_without_time_is_refused(knob):
    with pytest.raises(ValueError, match=knob):
        WatchConfig(**{knob: 0})


def test_mute_closes_a_live_source_and_opens_it_again_afterwards(tmp_path):
    file = tmp_path / "mute"
    source = ScriptedSource([SOUND] * 10_000)
    mute = Mute(file)

    def act(messages):
        if len(blocks_of(messages)) == 3:
            file.touch()
        if State.MUTED in states_of(messages) and not source.is_open and file.exists():
            file.unlink()
        return states_of(messages).count(State.LISTENING) == 2

    messages = watched(source, mute=mute, until=act)
    assert source.opened >= 2
    assert not any(message.is_restart for message in messages if isinstance(message, Notice))


@pytest.mark.parametrize(
    ("knobs", "script", "said"),
    [
        ({"stall_s": 0.5}, [SOUND, *[None] * 400], "no samples for"),
        ({"silent_s": 2.0}, [np.zeros(RATE_HZ, np.float32)] * 3, "digital silence"),
    ],
)
def test_the_settings_of_the_watchdog_reach_every_input(knobs, script, said):
    out = queue.Queue()
    source = ScriptedSource(script)
    began = time.monotonic()
    with _running([Input("bed", source)], out, RATE_HZ, Mute(), ListenSettings(**knobs)):
        while not (isinstance(message := out.get(timeout=4), Notice) and said in message.text):
            assert time.monotonic() - began < 4  # with the defaults it would take 5 and 60 s of sound
    assert not source.is_open


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_an_ffmpeg_that_is_killed_comes_back():
    source = FfmpegSource("anoisesrc=r=16000", RATE_HZ, input_options=("-re", "-f", "lavfi"))
    killed = []

    def act(messages):
        if len(blocks_of(messages)) >= 2 and not killed:
            killed.append(source.pid)
            os.kill(source.pid, signal.SIGKILL)
        return sum(block.is_first for block in blocks_of(messages)) == 2

    messages = watched(source, watch=WatchConfig(first_wait_s=0.02, most_wait_s=0.05), until=act)
    assert State.DOWN in states_of(messages)
    assert killed


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_an_ffmpeg_that_is_frozen_is_replaced():
    source = FfmpegSource("anoisesrc=r=16000", RATE_HZ, input_options=("-re", "-f", "lavfi"))
    frozen = []

    def act(messages):
        if len(blocks_of(messages)) >= 2 and not frozen:
            frozen.append(source.pid)
            os.kill(source.pid, signal.SIGSTOP)
        return sum(block.is_first for block in blocks_of(messages)) == 2

    watched(source, watch=WatchConfig(stall_s=0.6, first_wait_s=0.02, most_wait_s=0.05), until=act, seconds=20)
    with pytest.raises(ProcessLookupError):
        os.kill(frozen[0], 0)
