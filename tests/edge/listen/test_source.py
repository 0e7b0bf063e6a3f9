import http.server
import os
import shutil
import threading
import time
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark_data.audio import read_audio
from earmark_edge.listen.ffmpeg import FfmpegSource, redacted
from earmark_edge.listen.inputs import inputs_of
from earmark_edge.listen.microphone import MicrophoneSource
from earmark_edge.listen.source import (
    FileSource,
    InputError,
    PcmDecoder,
    PcmFormat,
    PcmSource,
    SourceEndedError,
    SourceError,
)
from earmark_edge.outbox import wav_bytes

RATE_HZ = 16_000


def all_of(source, timeout_s=5.0):
    source.open()
    parts, until = [], time.monotonic() + 20
    try:
        while time.monotonic() < until:
            part = source.read(timeout_s)
            if part is not None:
                parts.append(part)
    except SourceEndedError:
        return np.concatenate(parts)
    finally:
        source.close()
    msg = "it never ended"
    raise AssertionError(msg)


def read_on(source):
    source.open()
    for _ in range(100):
        source.read(0.2)


@pytest.fixture
def recording(tmp_path, play):
    path = tmp_path / "home.wav"
    path.write_bytes(wav_bytes(play(("speech", 0.5), ("scream", 1.0)), RATE_HZ))
    return path


def test_a_file_gives_what_the_decoder_gives_paced_or_fast(recording):
    whole = read_audio(recording)
    np.testing.assert_array_equal(all_of(FileSource(recording, RATE_HZ, is_paced=False)), whole)
    began = time.monotonic()
    np.testing.assert_array_equal(all_of(FileSource(recording, RATE_HZ)), whole)
    assert time.monotonic() - began >= 1.2  # the last of its 6 blocks is due after 1.25 s


def test_a_file_that_is_damaged_half_way_ends_with_the_cause(tmp_path, play):
    path = tmp_path / "cut.wav"
    path.write_bytes(wav_bytes(play(("speech", 1)), RATE_HZ)[:-100])
    source = FileSource(path, RATE_HZ, is_paced=False)
    with pytest.raises(SourceEndedError, match="promise"):
        read_on(source)


@given(st.data(), st.sampled_from(["s16le", "s32le", "f32le"]), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_pcm_is_the_same_however_its_bytes_are_cut(data, encoding, channels):
    rng = np.random.default_rng(4)
    values = rng.uniform(-1, 1, (2_000, channels))
    scale, kind = {"s16le": (32_767, "<i2"), "s32le": (2**31 - 1, "<i4"), "f32le": (1, "<f4")}[encoding]
    raw = (values * scale).astype(kind).tobytes()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    decoder = PcmDecoder(PcmFormat(RATE_HZ, channels, encoding), RATE_HZ)
    parts = [decoder.feed(raw[a:b]) for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    found = np.concatenate([*parts, decoder.flush()])
    np.testing.assert_allclose(found, values.mean(axis=1), atol=1e-4)
    whole = PcmDecoder(PcmFormat(RATE_HZ, channels, encoding), RATE_HZ).feed(raw)
    np.testing.assert_array_equal(found, whole)


def test_pcm_of_another_rate_is_resampled_and_keeps_its_pitch():
    time_s = np.arange(48_000) / 48_000
    tone = (0.5 * np.sin(2 * np.pi * 1_000 * time_s) * 32_767).astype("<i2").tobytes()
    decoder = PcmDecoder(PcmFormat(48_000), RATE_HZ)
    found = np.concatenate([*(decoder.feed(tone[i : i + 999]) for i in range(0, len(tone), 999)), decoder.flush()])
    assert len(found) == RATE_HZ
    assert np.abs(np.fft.rfft(found)).argmax() == 1_000


def test_a_nan_does_not_spread_through_the_resampler():
    samples = np.full(4_800, 0.25, np.float32)
    samples[2_400] = np.nan
    decoder = PcmDecoder(PcmFormat(48_000, encoding="f32le"), RATE_HZ)
    found = np.concatenate([decoder.feed(samples.tobytes()), decoder.flush()])
    assert np.isfinite(found).all()


def test_standard_input_gives_all_samples_then_ends_and_is_patient_in_between():
    reading, writing = os.pipe()
    source = PcmSource(reading, PcmFormat(RATE_HZ), RATE_HZ)
    source.open()
    assert source.read(0.01) is None
    os.write(writing, np.array([1, 2, 3], "<i2").tobytes() + b"\x04")
    np.testing.assert_array_equal(source.read(1), np.array([1, 2, 3], np.float32) / 32_768)
    os.close(writing)
    with pytest.raises(SourceEndedError):
        source.read(1)
    os.close(reading)


@pytest.mark.parametrize("change", [{"rate_hz": 1}, {"rate_hz": 10**9}, {"channels": 0}, {"channels": 33}, {"encoding": "mp3"}])
def test_pcm_of_another_kind_is_refused(change):
    with pytest.raises(InputError, match=str(next(iter(change.values())))):
        PcmFormat(**{"rate_hz": RATE_HZ, **change})


needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


@needs_ffmpeg
def test_ffmpeg_gives_the_samples_of_a_file(recording):
    found = all_of(FfmpegSource(str(recording), RATE_HZ, is_live=False))
    np.testing.assert_allclose(found, read_audio(recording), atol=1e-6)


@needs_ffmpeg
def test_a_stream_over_http_is_heard(recording):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=recording.parent))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}/{recording.name}"
        np.testing.assert_allclose(all_of(FfmpegSource(address, RATE_HZ, is_live=False)), read_audio(recording), atol=1e-6)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@needs_ffmpeg
def test_an_address_that_does_not_answer_is_told_without_its_password():
    source = FfmpegSource("rtsp://admin:hunter2@127.0.0.1:1/x?key=secret", RATE_HZ)
    with pytest.raises(SourceError, match="ffmpeg ended") as caught:
        read_on(source)
    assert "hunter2" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert source.name == "rtsp://127.0.0.1:1/x"
    source.close()


@needs_ffmpeg
def test_closing_ends_the_subprocess():
    source = FfmpegSource("anullsrc=r=16000", RATE_HZ, input_options=("-re", "-f", "lavfi"))
    source.open()
    pid = source.pid
    while source.read(1) is None:
        pass
    source.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_an_address_that_would_be_an_option_is_refused():
    with pytest.raises(InputError, match="no address"):
        FfmpegSource("-i", RATE_HZ)


def test_an_address_is_shown_without_secrets():
    assert redacted("https://u:p@host/a?b#c") == "https://host/a"


def test_inputs_are_what_their_names_say(recording):
    texts = ["mic", "bed=mic:USB", f"hall={recording}", "door=rtsp://u:p@cam/1", "alsa:hw:1", "-"]
    found = inputs_of(texts, RATE_HZ, pcm=PcmFormat(8_000), is_fast=False)
    kinds = [(each.name, type(each.source)) for each in found]
    assert kinds == [
        ("microphone", MicrophoneSource),
        ("bed", MicrophoneSource),
        ("hall", FileSource),
        ("door", FfmpegSource),
        ("hw:1", FfmpegSource),
        ("standard input", PcmSource),
    ]


@pytest.mark.parametrize(
    ("texts", "said"),
    [(["-"], "--rate"), (["mic", "mic"], "name them apart"), (["nowhere.wav"], "no such file"), (["."], "folder"), ([""], "empty input")],
)
def test_inputs_that_can_never_work_are_refused_and_say_why(texts, said, tmp_path, monkeypatch, recording):
    monkeypatch.chdir(recording.parent)
    (recording.parent / "b.wav").write_bytes(recording.read_bytes())
    with pytest.raises(InputError, match=said):
        inputs_of(texts, RATE_HZ, pcm=None, is_fast=False)
