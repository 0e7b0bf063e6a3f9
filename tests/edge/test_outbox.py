import hashlib
import io
import os
import shutil
import wave
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from earmark_edge.decide import DecideConfig
from earmark_edge.detector import Detector
from earmark_edge.event import Event, ScoreTrack
from earmark_edge.outbox import FILE_TIME_UNCERTAINTY_S, Origin, file_origin, pack
from earmark_edge.picture import ThirdOctavePicture, third_octave_picture
from earmark_edge.scorer import Scorer
from earmark_edge.tiers import wav_bytes
from earmark_model.contract import GRAPH_FILE, sha256_file

ORIGIN = Origin("boot", datetime(2026, 1, 31, 12, tzinfo=UTC), 60.0, "consent-7")


@pytest.fixture(scope="module")
def detector(scorer):
    return Detector(scorer)


@pytest.fixture(scope="module")
def detection(detector, play):
    detector.feed(play(("speech", 3), ("scream", 1.5), ("speech", 3)))
    (found,) = detector.flush().detections
    return found


def test_a_parcel_says_what_was_detected_and_under_which_rules(detector, detection, bundle):
    event = pack(detection, 4, ORIGIN, detector.rules).event
    assert (event.seq, event.label, event.reason, event.consent_id) == (4, "scream", detection.reason, "consent-7")
    assert (event.onset_s, event.offset_s, event.scores) == (detection.onset_s, detection.offset_s, detection.scores)
    assert event.model_sha256 == sha256_file(bundle / GRAPH_FILE)
    assert event.config_sha256 == detector.rules.sha256
    assert event.calibration_sha256 == "c" * 64
    assert Event.from_bytes(event.to_bytes()) == event


def test_the_wall_time_is_that_of_the_onset(detector, detection):
    event = pack(detection, 0, ORIGIN, detector.rules).event
    assert (datetime.fromisoformat(event.wall_time) - ORIGIN.started_at).total_seconds() == pytest.approx(detection.onset_s, abs=1e-6)
    assert event.wall_uncertainty_s == 60.0


def test_without_a_guarantee_no_calibration_is_named(write_bundle, tmp_path, detection):
    rules = Detector(Scorer(write_bundle(tmp_path, verified=()))).rules
    assert pack(detection, 0, ORIGIN, rules).event.calibration_sha256 is None


def test_there_is_an_object_for_every_tier_and_the_event_describes_them(detector, detection):
    parcel = pack(detection, 0, ORIGIN, detector.rules)
    kinds = [(0, "application/json"), (1, "application/json"), (2, "audio/wav"), (3, "audio/wav")]
    assert [(clip.tier, clip.media_type) for clip in parcel.event.clips] == kinds
    for clip in parcel.event.clips:
        assert (clip.length, clip.sha256) == (len(parcel.payloads[clip.tier]), hashlib.sha256(parcel.payloads[clip.tier]).hexdigest())
    sent = ScoreTrack.from_bytes(parcel.payloads[0])
    assert sent.start_s == detection.onset_s
    assert sent.scores["scream"] == pytest.approx(detection.track.scores["scream"], abs=5e-5)
    np.testing.assert_allclose(samples_of(parcel.payloads[3]), detection.audio, atol=0.5 / 32_767 + 1e-7)


def samples_of(wav):
    with wave.open(io.BytesIO(wav)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32_767


def test_the_picture_and_the_masked_audio_are_of_the_span_and_no_longer_than_it(detector, detection):
    parcel = pack(detection, 0, ORIGIN, detector.rules)
    picture = ThirdOctavePicture.from_bytes(parcel.payloads[1])
    assert picture == third_octave_picture(detection.audio, 16_000, detection.onset_s)
    masked = samples_of(parcel.payloads[2])
    assert len(masked) == len(detection.audio)
    assert parcel.payloads[2] != parcel.payloads[3]  # the scream of this bundle is a tone, which no mask changes much
    assert np.sqrt(np.mean(masked**2)) == pytest.approx(np.sqrt(np.mean(detection.audio**2)), rel=0.01)


@pytest.mark.parametrize("chunk", [1_000, 16_000, 70_001])
def test_the_same_sound_heard_in_other_chunks_gives_the_same_objects(scorer, play, chunk):
    audio = play(("speech", 3), ("scream", 1.5), ("speech", 3))
    whole, parts = Detector(scorer), Detector(scorer)
    whole.feed(audio)
    early = [found for at in range(0, len(audio), chunk) for found in parts.feed(audio[at : at + chunk]).detections]
    (one,), (other,) = whole.flush().detections, (*early, *parts.flush().detections)
    given, again = (pack(found, 0, ORIGIN, whole.rules).payloads for found in (one, other))
    assert {tier: given[tier] == again[tier] for tier in (1, 2, 3)} == {1: True, 2: True, 3: True}


def test_full_scale_does_not_wrap_around():
    with wave.open(io.BytesIO(wav_bytes(np.array([1.0, -1.0, 1.5, -1.5], np.float32), 16_000))) as file:
        assert np.frombuffer(file.readframes(4), "<i2").tolist() == [32_767, -32_767, 32_767, -32_767]


def test_the_same_detection_is_the_same_parcel_and_any_other_is_another_event(detector, detection):
    same = pack(detection, 0, ORIGIN, detector.rules)
    assert pack(detection, 0, ORIGIN, detector.rules) == same
    later = replace(detection, onset_s=detection.onset_s + 0.08)
    louder = replace(detection, audio=detection.audio * 0.5)
    for other in (pack(later, 0, ORIGIN, detector.rules), pack(louder, 0, ORIGIN, detector.rules)):
        assert other.event.event_id != same.event.event_id


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(wav_bytes(np.zeros(16_000, np.float32), 16_000))
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return path


def test_a_file_is_taken_to_end_at_its_modification_time_give_or_take_a_day(recording, detector):
    origin = file_origin(recording, 60.0, detector.rules, "consent-7")
    assert origin.started_at.timestamp() == 1_700_000_000 - 60
    assert origin.wall_uncertainty_s == FILE_TIME_UNCERTAINTY_S == 86_400


def test_the_same_file_is_the_same_stream_under_any_name(recording, detector, tmp_path):
    shutil.copy2(recording, tmp_path / "b.wav")
    assert file_origin(tmp_path / "b.wav", 1.0, detector.rules, "c") == file_origin(recording, 1.0, detector.rules, "c")


def test_whatever_changes_the_events_of_a_file_changes_their_stream(recording, detector, scorer):
    """So an event that is sent again never differs from the one that the service holds under its identifier."""
    first = file_origin(recording, 1.0, detector.rules, "c")
    other_rules = Detector(scorer, DecideConfig(margin_s=0.5)).rules
    boots = {first.boot_id, file_origin(recording, 1.0, detector.rules, "d").boot_id, file_origin(recording, 1.0, other_rules, "c").boot_id}
    os.utime(recording, (1_700_000_001, 1_700_000_001))
    boots.add(file_origin(recording, 1.0, detector.rules, "c").boot_id)
    recording.write_bytes(recording.read_bytes() + b"\0")
    os.utime(recording, (1_700_000_000, 1_700_000_000))
    boots.add(file_origin(recording, 1.0, detector.rules, "c").boot_id)
    assert len(boots) == 5
