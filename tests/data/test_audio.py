import os
import struct
import subprocess
import sys
import tracemalloc
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from earmark_data.audio import AUDIO_SUFFIXES, AudioError, find_audio, probe_audio, read_audio, stream_audio

FORMATS = {
    "wav": {"subtype": "PCM_16"},
    "flac": {"subtype": "PCM_16"},
    "ogg": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "mp3": {"format": "MP3"},
}


def tone(frequency_hz: float, rate_hz: int, seconds: float = 1.0, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def rms(samples: np.ndarray) -> float:
    middle = samples[len(samples) // 4 : -len(samples) // 4]  # away from the ringing at both ends
    return float(np.sqrt(np.mean(np.square(middle, dtype=np.float64))))


def write_vbr_without_tag(path: Path) -> None:
    """An MP3 of silence, then noise, whose first frame (the Xing tag) is cut away."""
    noise = np.random.default_rng(0).standard_normal(48_000).astype(np.float32) * 0.2
    samples = np.concatenate([np.zeros(48_000, np.float32), noise])
    soundfile.write(path, samples, 48_000, format="MP3", bitrate_mode="VARIABLE", compression_level=0.3)
    path.write_bytes(without_first_mp3_frame(path.read_bytes()))


def without_first_mp3_frame(mp3: bytes) -> bytes:
    kbps = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)[mp3[2] >> 4]
    return mp3[144_000 * kbps // 48_000 + (mp3[2] >> 1 & 1) :]


def error_of(path: Path) -> str:
    """The one line that reading `path` raises; the error of the stream must be the same one."""
    with pytest.raises(AudioError) as error:
        read_audio(path)
    with pytest.raises(AudioError) as streamed:
        list(stream_audio(path))
    assert str(error.value) == str(streamed.value)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_decodes_to_the_tone_that_was_written(tmp_path, suffix):
    soundfile.write(tmp_path / f"tone.{suffix}", tone(1_000, 48_000), 48_000, **FORMATS[suffix])
    samples = read_audio(tmp_path / f"tone.{suffix}")
    assert samples.dtype == np.float32
    assert abs(len(samples) - 16_000) <= 1_200  # lossy codecs pad by a block
    spectrum = np.abs(np.fft.rfft(samples[2_000:14_000]))
    assert np.argmax(spectrum) * 16_000 / 12_000 == pytest.approx(1_000, abs=2)
    assert rms(samples) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_the_formats_that_folders_are_searched_for_are_the_formats_tested():
    assert {f".{suffix}" for suffix in FORMATS} == set(AUDIO_SUFFIXES)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_a_tone_in_the_band_survives_resampling(tmp_path, rate_hz):
    soundfile.write(tmp_path / "in.wav", tone(3_000, rate_hz), rate_hz, subtype="FLOAT")
    samples = read_audio(tmp_path / "in.wav")
    assert len(samples) == pytest.approx(16_000, abs=1)
    assert rms(samples) == pytest.approx(0.5 / np.sqrt(2), rel=1e-3)
    expected = tone(3_000, 16_000)
    assert np.abs(samples[4_000:12_000] - expected[4_000:12_000]).max() < 1e-3  # neither delayed nor turned in phase


@pytest.mark.parametrize("rate_hz", [22_050, 48_000, 192_000])
def test_a_tone_above_nyquist_does_not_survive_and_does_not_fold_back(tmp_path, rate_hz):
    soundfile.write(tmp_path / "in.wav", tone(9_500, rate_hz), rate_hz, subtype="FLOAT")
    assert rms(read_audio(tmp_path / "in.wav")) < 1e-4 * 0.5


def test_channels_are_averaged(tmp_path):
    left, right = tone(500, 16_000), tone(2_000, 16_000)
    soundfile.write(tmp_path / "in.wav", np.stack([left, right], axis=1), 16_000, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "in.wav"), (left + right) / 2, atol=1e-7)


def test_a_7_1_file_at_192_khz_is_read(tmp_path):
    channels = np.zeros((192_000, 8), np.float32)
    channels[:, 3] = tone(1_000, 192_000, amplitude=0.8)
    soundfile.write(tmp_path / "in.wav", channels, 192_000, subtype="PCM_24")
    assert probe_audio(tmp_path / "in.wav").channels == 8
    assert rms(read_audio(tmp_path / "in.wav")) == pytest.approx(0.1 / np.sqrt(2), rel=1e-3)


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_samples_stay_within_full_scale(tmp_path, rate_hz):
    square = np.sign(tone(440, rate_hz)) * 3  # overshoots by itself, and again when resampled
    soundfile.write(tmp_path / "in.wav", square, rate_hz, subtype="FLOAT")
    samples = read_audio(tmp_path / "in.wav")
    assert samples.max() == 1
    assert samples.min() == -1


def test_probe_tells_what_the_header_says(tmp_path):
    soundfile.write(tmp_path / "in.flac", np.zeros((66_150, 2), np.float32), 44_100)
    info = probe_audio(tmp_path / "in.flac")
    assert (info.path, info.duration_s, info.sample_rate_hz, info.channels) == (tmp_path / "in.flac", 1.5, 44_100, 2)


@pytest.fixture(scope="module")
def noise_44k(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("noise") / "noise.flac"
    soundfile.write(path, np.random.default_rng(3).uniform(-0.4, 0.4, 44_100 * 4), 44_100)
    return path


@given(block_s=st.floats(1 / 16_000, 9), rate_hz=st.sampled_from([8_000, 16_000, 44_100]))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_streamed_equals_read_for_any_block_size(noise_44k, block_s, rate_hz):
    block_s = max(block_s, 0.002)  # a few thousand blocks are enough
    blocks = list(stream_audio(noise_44k, sample_rate_hz=rate_hz, block_s=block_s))
    np.testing.assert_array_equal(np.concatenate(blocks), read_audio(noise_44k, sample_rate_hz=rate_hz))
    assert all(len(block) == round(block_s * rate_hz) for block in blocks[:-1])
    assert 0 < len(blocks[-1]) <= round(block_s * rate_hz)


def test_a_part_equals_the_same_part_of_the_whole_where_the_rate_is_kept(noise_44k):
    whole = read_audio(noise_44k, sample_rate_hz=44_100)
    part = read_audio(noise_44k, sample_rate_hz=44_100, offset_s=1.25, duration_s=0.5)
    np.testing.assert_array_equal(part, whole[55_125 : 55_125 + 22_050])


def test_a_part_ends_with_the_file(noise_44k):
    assert len(read_audio(noise_44k, offset_s=3.5, duration_s=10)) == 8_000


@pytest.mark.parametrize(("offset_s", "duration_s"), [(4.0, None), (-0.1, None), (0.0, 0.0), (1.0, -2.0), (0.0, 1e-9)])
def test_a_part_outside_the_file_is_an_error(noise_44k, offset_s, duration_s):
    with pytest.raises(AudioError, match=r"outside its 4\.000 s|holds no sample"):
        read_audio(noise_44k, offset_s=offset_s, duration_s=duration_s)


def test_a_block_without_a_sample_is_an_error(noise_44k):
    with pytest.raises(AudioError, match="at least one sample"):
        list(stream_audio(noise_44k, block_s=0))


def test_memory_does_not_grow_with_the_length_of_a_stream(tmp_path):
    def peak(seconds: int) -> int:
        path = tmp_path / f"{seconds}.wav"
        with wave.open(str(path), "wb") as file:
            file.setparams((2, 2, 48_000, 0, "NONE", ""))
            for _ in range(seconds):
                file.writeframes(bytes(48_000 * 4))
        tracemalloc.start()
        heard = sum(len(block) for block in stream_audio(path, block_s=1))
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert heard == seconds * 16_000
        return used

    assert peak(120) < 1.1 * peak(30)


def test_an_empty_file_is_named(tmp_path):
    (tmp_path / "in.wav").touch()
    assert "empty file" in error_of(tmp_path / "in.wav")


@pytest.mark.parametrize("suffix", ["wav", "ogg"])
def test_a_header_without_samples_is_named(tmp_path, suffix):
    soundfile.write(tmp_path / f"in.{suffix}", np.zeros(0, np.float32), 16_000, **FORMATS[suffix])
    assert error_of(tmp_path / f"in.{suffix}") == "a header without samples"


def test_what_is_not_audio_is_named(tmp_path):
    (tmp_path / "in.wav").write_text("a shopping list: milk, bread, " * 20)
    assert "not audio" in error_of(tmp_path / "in.wav")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_never_taken_for_a_shorter_one(tmp_path, suffix, kept):
    path = tmp_path / f"in.{suffix}"
    soundfile.write(path, np.random.default_rng(1).uniform(-0.5, 0.5, 96_000), 48_000, **FORMATS[suffix])
    whole = path.read_bytes()
    path.write_bytes(whole[: round(kept * len(whole))])
    assert "truncated" in error_of(path)


@pytest.mark.parametrize("suffix", ["wav", "mp3"])
def test_a_file_cut_inside_its_header_is_an_error(tmp_path, suffix):
    path = tmp_path / f"in.{suffix}"
    soundfile.write(path, tone(440, 48_000), 48_000, **FORMATS[suffix])
    path.write_bytes(path.read_bytes()[:30])
    assert "truncated; it ends before its first sample" in error_of(path)


def test_an_ogg_file_cut_between_two_pages_is_an_error(tmp_path):
    path = tmp_path / "in.ogg"
    soundfile.write(path, np.random.default_rng(1).uniform(-0.5, 0.5, 480_000), 48_000, **FORMATS["ogg"])
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rfind(b"OggS")])
    assert "end-of-stream mark" in error_of(path)


@pytest.mark.parametrize("suffix", ["ogg", "opus"])
@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (lambda pages: pages[:4] + pages[5:], "an Ogg page is missing before byte"),
        (lambda pages: [*pages[:4], pages[4][:200] + bytes(20) + pages[4][220:], *pages[5:]], "does not match its checksum"),
        (lambda pages: [*pages[:4], bytes(len(pages[4])), *pages[5:]], "stands no Ogg page"),
    ],
    ids=["page lost", "bytes lost", "page blank"],
)
def test_damage_inside_an_ogg_file_is_an_error_although_decoders_pass_over_it(tmp_path, suffix, damage, cause):
    path = tmp_path / f"in.{suffix}"
    soundfile.write(path, np.random.default_rng(1).uniform(-0.5, 0.5, 480_000), 48_000, **FORMATS[suffix])
    pages = [b"OggS" + page for page in path.read_bytes().split(b"OggS")[1:]]
    assert len(pages) > 6
    path.write_bytes(b"".join(damage(pages)))
    assert cause in error_of(path)


def test_what_players_append_to_an_ogg_file_is_no_damage(tmp_path):
    path = tmp_path / "in.ogg"
    soundfile.write(path, tone(440, 16_000), 16_000, **FORMATS["ogg"])
    path.write_bytes(path.read_bytes() + b"TAG" + bytes(125))
    assert len(read_audio(path)) == 16_000


def test_a_chain_of_ogg_recordings_is_refused_because_only_the_first_would_be_heard(tmp_path):
    for name in ("in.ogg", "b.ogg"):
        soundfile.write(tmp_path / name, tone(440, 16_000), 16_000, **FORMATS["ogg"])
    (tmp_path / "in.ogg").write_bytes((tmp_path / "in.ogg").read_bytes() + (tmp_path / "b.ogg").read_bytes())
    assert "a chain of recordings" in error_of(tmp_path / "in.ogg")


def test_a_decoder_that_stops_early_is_not_taken_for_the_end(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "in.wav", tone(440, 16_000), 16_000)
    monkeypatch.setattr(soundfile.SoundFile, "frames", property(lambda _: 16_100))
    assert "promises 16100 samples per channel, 16000 could be decoded" in error_of(tmp_path / "in.wav")


def test_a_wav_whose_length_was_never_known_is_read_to_its_end(tmp_path):
    path = tmp_path / "in.wav"
    soundfile.write(path, tone(440, 16_000), 16_000, subtype="PCM_16")
    piped = bytearray(path.read_bytes())
    piped[4:8] = piped[40:44] = struct.pack("<I", 0xFFFFFFFF)  # what a writer to a pipe puts down
    path.write_bytes(piped)
    assert len(read_audio(path)) == 16_000


def test_a_truncated_rf64_file_is_an_error_and_a_whole_one_is_read(tmp_path):
    path = tmp_path / "in.wav"
    soundfile.write(path, tone(440, 16_000), 16_000, format="RF64", subtype="PCM_16")
    assert path.read_bytes()[:4] == b"RF64"
    assert len(read_audio(path)) == 16_000
    path.write_bytes(path.read_bytes()[:-100])
    assert "truncated" in error_of(path)


def test_a_chunk_of_odd_length_before_the_samples_is_stepped_over(tmp_path):
    path = tmp_path / "in.wav"
    soundfile.write(path, tone(440, 16_000), 16_000, subtype="PCM_16")
    plain = path.read_bytes()
    path.write_bytes(plain[:36] + b"note" + struct.pack("<I", 3) + b"abc\0" + plain[36:])
    assert len(read_audio(path)) == 16_000
    path.write_bytes(path.read_bytes()[:-1])
    assert "truncated" in error_of(path)


def test_an_mp3_of_varying_bit_rate_without_its_tag_is_refused_because_its_end_would_be_lost(tmp_path):
    write_vbr_without_tag(tmp_path / "in.mp3")
    assert "convert it" in error_of(tmp_path / "in.mp3")


@pytest.mark.parametrize("id3", [b"", b"ID3\x04\0\0\0\0\0\x14" + b"TIT2\0\0\0\x06\0\0\x03title" + bytes(4)])
def test_an_mp3_of_one_bit_rate_needs_no_tag_but_its_last_frame_must_be_whole(tmp_path, id3):
    path = tmp_path / "in.mp3"
    soundfile.write(path, tone(440, 48_000, 2.0), 48_000, format="MP3", bitrate_mode="CONSTANT", compression_level=0.3)
    frames = id3 + without_first_mp3_frame(path.read_bytes())
    path.write_bytes(frames)
    assert len(read_audio(path)) == pytest.approx(32_000, abs=1_200)
    path.write_bytes(frames[:-10])
    assert "last frame is cut" in error_of(path)


@pytest.mark.parametrize("trailer", [b"TAG" + bytes(125), b"APETAGEX" + bytes(400), bytes(10)])
def test_the_tags_that_players_append_to_an_mp3_are_no_damage(tmp_path, trailer):
    path = tmp_path / "in.mp3"
    soundfile.write(path, tone(440, 48_000, 2.0), 48_000, format="MP3", bitrate_mode="CONSTANT", compression_level=0.3)
    path.write_bytes(without_first_mp3_frame(path.read_bytes()) + trailer)
    assert len(read_audio(path)) == pytest.approx(32_000, abs=1_200)


@pytest.mark.parametrize("is_tagged", [True, False])
def test_a_gap_between_mp3_frames_is_an_error_that_says_where(tmp_path, is_tagged):
    path = tmp_path / "in.mp3"
    soundfile.write(path, tone(440, 48_000, 2.0), 48_000, format="MP3", bitrate_mode="CONSTANT", compression_level=0.3)
    frames = path.read_bytes() if is_tagged else without_first_mp3_frame(path.read_bytes())
    path.write_bytes(frames[:20_000] + bytes(1_000) + frames[21_000:])
    assert "damaged; at byte" in error_of(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channel", [0, 1])
def test_a_sample_that_is_not_finite_is_an_error_that_names_the_second(tmp_path, value, channel):
    samples = np.zeros((48_000 * 8, 2), np.float32)
    samples[48_000 * 7 + 24_000, channel] = value
    soundfile.write(tmp_path / "in.wav", samples, 48_000, subtype="FLOAT")
    assert error_of(tmp_path / "in.wav").endswith("not a finite number at 7.500 s")


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_zero_channels_are_named(tmp_path, subtype):
    path = tmp_path / "in.wav"
    soundfile.write(path, tone(440, 16_000), 16_000, subtype=subtype)
    header = bytearray(path.read_bytes())
    header[22:24] = b"\0\0"
    path.write_bytes(header)
    assert error_of(path) == "a header with zero channels"


def test_a_damaged_flac_frame_is_an_error_that_says_where(tmp_path):
    path = tmp_path / "in.flac"
    soundfile.write(path, np.random.default_rng(1).uniform(-0.5, 0.5, 480_000), 48_000)
    body = bytearray(path.read_bytes())
    body[len(body) // 2 : len(body) // 2 + 4_000] = bytes(4_000)
    path.write_bytes(body)
    assert "damaged from about" in error_of(path)


def test_a_flac_that_states_no_length_is_named(tmp_path):
    path = tmp_path / "in.flac"
    soundfile.write(path, tone(440, 16_000), 16_000)
    piped = bytearray(path.read_bytes())
    piped[21] &= 0xF0  # the 36 bits of STREAMINFO that count samples
    piped[22:26] = bytes(4)
    path.write_bytes(piped)
    assert "states no length" in error_of(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    assert error_of(tmp_path / "no.wav") == "no such file"
    assert "a folder" in error_of(tmp_path)


def test_a_file_without_permission_is_named(tmp_path):
    path = tmp_path / "in.wav"
    soundfile.write(path, tone(440, 16_000), 16_000)
    path.chmod(0)
    script = (
        "import os, sys\n"
        "import earmark_data.audio as audio\n"
        "if os.geteuid() == 0: os.setegid(65534); os.seteuid(65534)\n"  # permissions do not bind root
        "try: audio.read_audio(sys.argv[1])\n"
        "except audio.AudioError as error: print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert told.stdout == f"{path}: cannot be read (Permission denied)\n"


def test_a_name_that_no_file_can_have_is_an_error():
    with pytest.raises(AudioError, match="cannot be read"):
        read_audio("a\0b.wav")


def test_a_name_that_is_not_utf_8_is_read(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.wav"))
    soundfile.write(tmp_path / "in.wav", tone(440, 16_000), 16_000)
    (tmp_path / "in.wav").rename(path)
    assert len(read_audio(path)) == 16_000


def test_folders_give_their_audio_sorted_and_files_stay_as_named(tmp_path):
    for name in ("b.WAV", "a.mp3", "deep/er/c.opus", "notes.txt", "other.aiff"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_audio([tmp_path / "other.aiff", tmp_path, tmp_path / "a.mp3"])
    assert [str(path.relative_to(tmp_path)) for path in found] == ["other.aiff", "a.mp3", "b.WAV", "deep/er/c.opus"]


def test_a_folder_without_audio_and_a_missing_path_are_errors(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(AudioError, match="a folder without audio"):
        find_audio([tmp_path])
    with pytest.raises(AudioError, match=r"nothing\.wav: no such file or folder"):
        find_audio([tmp_path / "nothing.wav"])


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "a.wav").touch()
    (tmp_path / "locked").mkdir()
    real = os.scandir

    def refusing(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(AudioError, match=r"locked: cannot be read \(Permission denied\)"):
        find_audio([tmp_path])


@pytest.mark.parametrize("suffix", AUDIO_SUFFIXES)
def test_noise_under_any_name_is_one_error_and_no_chatter_of_a_decoder(tmp_path, capfd, suffix):
    path = tmp_path / f"noise{suffix}"
    path.write_bytes(np.random.default_rng(6).bytes(4_000))
    with pytest.raises(AudioError, match="not audio that can be decoded"):
        read_audio(path)
    assert capfd.readouterr() == ("", "")
