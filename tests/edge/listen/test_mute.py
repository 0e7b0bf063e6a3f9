import os
import signal

import gpiozero
import pytest
from gpiozero.pins.mock import MockFactory

from earmark_edge.listen.mute import Mute, gpio_line
from earmark_edge.listen.source import InputError


def test_a_file_mutes_while_it_exists(tmp_path):
    mute = Mute(tmp_path / "mute")
    assert not mute.is_on
    (tmp_path / "mute").touch()
    assert mute.is_on
    assert mute.reasons == ("file",)
    (tmp_path / "mute").unlink()
    assert not mute.is_on


def test_a_dangling_link_mutes_too(tmp_path):
    (tmp_path / "mute").symlink_to(tmp_path / "nowhere")
    assert Mute(tmp_path / "mute").is_on


def test_what_cannot_be_told_is_muted(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert Mute(loop / "mute").is_on  # ELOOP


@pytest.fixture
def caught():
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_mutes_and_outlives_a_restart(tmp_path, caught):
    mute = Mute(tmp_path / "mute")
    mute.catch_signals()
    os.kill(os.getpid(), signal.SIGUSR1)
    os.kill(os.getpid(), signal.SIGUSR1)
    assert mute.is_on
    assert "signal" in mute.reasons
    assert Mute(tmp_path / "mute").is_on
    os.kill(os.getpid(), signal.SIGUSR2)
    assert not mute.is_on
    assert not (tmp_path / "mute").exists()


def test_a_signal_mutes_even_if_its_file_cannot_be_made(tmp_path, caplog):
    mute = Mute(tmp_path / "gone" / "mute")
    mute.on_signal()
    assert mute.is_on
    assert "until the next restart only" in caplog.text


def test_a_switch_mutes_and_one_that_fails_mutes_too():
    is_closed = [True]
    mute = Mute(None, lambda: is_closed[0])
    assert mute.reasons == ("switch",)
    is_closed[0] = False
    assert not mute.is_on
    assert Mute(None, lambda: 1 // 0).is_on


def test_a_gpio_line_is_read_through_gpiozero():
    before = gpiozero.Device.pin_factory
    gpiozero.Device.pin_factory = MockFactory()
    try:
        mute = Mute(None, gpio_line(17))
        pin = gpiozero.Device.pin_factory.pin(17)
        assert not mute.is_on
        pin.drive_low()
        assert mute.reasons == ("switch",)
        pin.drive_high()
        assert not mute.is_on
        with pytest.raises(InputError, match=r"EARMARK_MUTE_GPIO: line 17.*Leave it unset"):
            gpio_line(17)  # taken
    finally:
        gpiozero.Device.pin_factory.reset()
        gpiozero.Device.pin_factory = before
