"""Microphones over a PortAudio that a test plugs cards into: like the real one, it looks for cards only when it starts."""

import numpy as np
import pytest

from earmark_edge.listen import microphone
from earmark_edge.listen.microphone import MicrophoneSource
from earmark_edge.listen.source import SourceError

RATE_HZ = 16_000


class PortAudio:
    class PortAudioError(Exception):
        pass

    def __init__(self, cards):
        self.cards = cards
        self.plugged, self.known, self.open, self.starts = {"desk"}, set(), 0, 0
        self._initialize()

    def plug(self, name):
        self.plugged.add(name)
        self.cards.write_text(",".join(sorted(self.plugged)))

    def _terminate(self):
        assert self.open == 0, "it would pull the ground from under an open stream"

    def _initialize(self):
        self.known, self.starts = set(self.plugged), self.starts + 1

    def check_input_settings(self, device, **_):
        if device not in self.known:
            msg = f"no input device matching {device!r}"
            raise ValueError(msg)

    def InputStream(self, **_):  # noqa: N802 - sounddevice's own name
        return Stream(self)


class Stream:
    read_available = RATE_HZ

    def __init__(self, owner):
        self._owner = owner

    def start(self):
        self._owner.open += 1

    def read(self, count):
        return np.zeros((count, 1), np.float32), False

    def abort(self, **_):
        self._owner.open -= 1

    def close(self, **_):
        """Nothing."""


@pytest.fixture
def portaudio(tmp_path, monkeypatch):
    cards = tmp_path / "cards"
    cards.write_text("desk")
    made = PortAudio(cards)
    monkeypatch.setattr(microphone, "_CARDS", cards)
    monkeypatch.setattr(microphone, "load_sounddevice", lambda: made)
    monkeypatch.setattr(MicrophoneSource, "_open", set())
    monkeypatch.setattr(MicrophoneSource, "_missing", set())
    monkeypatch.setattr(MicrophoneSource, "_cards", "")
    return made


def test_a_microphone_that_is_plugged_in_while_another_listens_is_found(portaudio):
    desk, usb = MicrophoneSource(RATE_HZ, "desk"), MicrophoneSource(RATE_HZ, "usb")
    desk.open()
    with pytest.raises(SourceError, match="usb: cannot be opened"):
        usb.open()
    assert desk.read(0.1).size == RATE_HZ // 2, "nothing is to be found so far, so it goes on"
    portaudio.plug("usb")
    with pytest.raises(SourceError, match="looked for anew"):
        desk.read(0.1)
    desk.close()
    for source in (desk, usb):
        source.open()
    assert [source.read(0.1).size for source in (desk, usb)] == [RATE_HZ // 2] * 2
    for source in (desk, usb):
        source.close()


def test_a_card_that_is_plugged_in_disturbs_none_while_none_is_missing(portaudio):
    desk = MicrophoneSource(RATE_HZ, "desk")
    desk.open()
    portaudio.plug("usb")
    assert desk.read(0.1).size == RATE_HZ // 2
    desk.close()


def test_a_card_of_another_kind_breaks_the_others_off_once_and_not_for_ever(portaudio):
    desk, usb = MicrophoneSource(RATE_HZ, "desk"), MicrophoneSource(RATE_HZ, "usb")
    desk.open()
    with pytest.raises(SourceError):
        usb.open()
    portaudio.plug("camera")
    with pytest.raises(SourceError):
        desk.read(0.1)
    desk.close()
    desk.open()
    with pytest.raises(SourceError, match="usb: cannot be opened"):
        usb.open()
    assert desk.read(0.1).size == RATE_HZ // 2
    desk.close()
