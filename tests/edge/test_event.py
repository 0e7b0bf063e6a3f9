import hashlib
import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark_edge.event import (
    MAX_EVENT_BYTES,
    MAX_JSON_INTEGER,
    ClipObject,
    Event,
    Receipt,
    ScoreTrack,
    WireError,
)
from earmark_model.contract import LABELS, Reason

SHA = "0123456789abcdef" * 4
OPTIONAL = {"clips", "incident", "schema", "key_id", "policy_version", "slice_probability", "audio_withheld"}


def event(**changes):
    values = {
        "event_id": "3f6c",
        "boot_id": "boot",
        "seq": 3,
        "onset_s": 1.5,
        "offset_s": 4.25,
        "wall_time": "2026-01-31T12:00:00+00:00",
        "wall_uncertainty_s": 86_400.0,
        "label": "scream",
        "peak_score": 0.93,
        "threshold": 0.5,
        "reason": Reason.ABOVE_THRESHOLD,
        "scores": dict.fromkeys(LABELS, 0.25),
        "model_sha256": SHA,
        "config_sha256": SHA,
        "calibration_sha256": SHA,
        "consent_id": "consent-7",
        "clips": (ClipObject(0, "application/json", 12, SHA), ClipObject(3, "audio/wav", 88_044, SHA)),
    }
    return Event(**{**values, **changes})


def track(**changes):
    return ScoreTrack(
        **{"start_s": 1.5, "hop_s": 0.08, "scores": {"scream": (0.1, 0.9), "speech": (0.0, 0.25)}, "thresholds": {"scream": 0.5}, **changes}
    )


def test_an_event_survives_the_wire():
    assert Event.from_bytes(event().to_bytes()) == event()


DRAWN = {"reason": Reason.BELOW_THRESHOLD, "clips": (ClipObject(2, "audio/wav", 12, SHA),)}


def test_a_drawn_event_carries_its_probability_and_any_other_is_written_as_before_there_were_any():
    drawn = event(**DRAWN, slice_probability=0.05)
    assert json.loads(drawn.to_bytes())["slice_probability"] == 0.05
    assert Event.from_bytes(drawn.to_bytes()) == drawn
    assert b"slice_probability" not in event().to_bytes()


@pytest.mark.parametrize("changes", [*({**DRAWN, "slice_probability": bad} for bad in (0, -0.1, 1.5, float("nan"), "0.1", True))])
def test_a_probability_that_is_none_is_an_error(changes):
    with pytest.raises(WireError, match="slice_probability"):
        event(**changes)


@pytest.mark.parametrize("change", [{"reason": Reason.ROUTED_UNVERIFIED}, {"clips": (ClipObject(3, "audio/wav", 12, SHA),)}])
def test_only_what_lies_below_the_threshold_is_drawn_and_never_the_original(change):
    with pytest.raises(WireError, match="only below the threshold, and without the original"):
        event(**{**DRAWN, **change}, slice_probability=0.05)


def test_equal_events_give_equal_bytes_whatever_the_order_of_their_scores():
    turned = event(scores=dict(reversed(dict.fromkeys(LABELS, 0.25).items())))
    assert turned.to_bytes() == event().to_bytes()


def test_an_event_with_the_longest_identifiers_fits_into_its_bound():
    longest = event(event_id="e" * 128, boot_id="b" * 128, consent_id="c" * 128, scores=dict.fromkeys(LABELS, 0.12345678901234567))
    assert len(longest.to_bytes()) < MAX_EVENT_BYTES


def test_an_event_above_its_bound_is_refused_on_both_sides():
    wide = event(event_id="\U0001d11e" * 128, boot_id="\U0001d11e" * 128, consent_id="\U0001d11e" * 128)
    clips = tuple(ClipObject(tier, "x" * 600, 1, SHA) for tier in range(4))
    with pytest.raises(WireError, match="at most 4096 bytes"):
        replace(wide, clips=clips).to_bytes()
    with pytest.raises(WireError, match="at most 4096 bytes"):
        Event.from_bytes(b" " * (MAX_EVENT_BYTES + 1))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("schema", 3),
        ("event_id", ""),
        ("event_id", "e" * 129),
        ("boot_id", "line\nbreak"),
        ("consent_id", ""),
        ("seq", -1),
        ("seq", MAX_JSON_INTEGER + 1),
        ("onset_s", -0.1),
        ("onset_s", float("nan")),
        ("offset_s", 1.5),
        ("offset_s", float("inf")),
        ("label", "thunder"),
        ("scores", {"scream": 0.5}),
        ("scores", {**dict.fromkeys(LABELS, 0.5), "thunder": 0.5}),
        ("scores", {**dict.fromkeys(LABELS, 0.5), "cry": 1.01}),
        ("peak_score", -0.01),
        ("threshold", float("nan")),
        ("wall_uncertainty_s", -1.0),
        ("wall_time", "yesterday"),
        ("wall_time", "2026-01-31T12:00:00"),
        ("wall_time", "2026-01-31T12:00:00+02:00"),
        ("model_sha256", SHA.upper()),
        ("config_sha256", SHA[:-1]),
        ("calibration_sha256", "none"),
        ("audio_withheld", "tired"),
        ("clips", (ClipObject(3, "audio/wav", 1, SHA), ClipObject(3, "audio/wav", 2, SHA))),
    ],
)
def test_every_invariant_of_an_event_fires(name, value):
    with pytest.raises(WireError, match=name.removesuffix("_s") if name in {"onset_s", "peak_score"} else name):
        event(**{name: value})


@pytest.mark.parametrize("change", [{"tier": 4}, {"tier": -1}, {"length": 0}, {"sha256": "x"}])
def test_every_invariant_of_a_clip_object_fires(change):
    with pytest.raises(WireError, match=next(iter(change))):
        ClipObject(**{"tier": 3, "media_type": "audio/wav", "length": 1, "sha256": SHA, **change})


def test_a_clip_object_describes_its_payload():
    assert ClipObject.of(0, "application/json", b"{}") == ClipObject(0, "application/json", 2, hashlib.sha256(b"{}").hexdigest())


@pytest.mark.parametrize("name", [field.name for field in fields(Event) if field.name not in OPTIONAL])
def test_a_missing_field_is_an_error(name):
    raw = json.loads(event().to_bytes())
    del raw[name]
    with pytest.raises(WireError, match=name):
        Event.from_bytes(json.dumps(raw).encode())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seq", "3"),
        ("seq", True),
        ("seq", 3.0),
        ("onset_s", "1.5"),
        ("event_id", 7),
        ("reason", "because"),
        ("scores", []),
        ("scores", dict.fromkeys(LABELS, "high")),
        ("clips", "all"),
        ("clips", [{"tier": 3}]),
        ("clips", [7]),
        ("calibration_sha256", 7),
        ("unheard_of", 1),
    ],
)
def test_a_field_of_another_kind_is_a_wire_error_and_nothing_else(name, value):
    raw = {**json.loads(event().to_bytes()), name: value}
    with pytest.raises(WireError):
        Event.from_bytes(json.dumps(raw).encode())


def test_whole_numbers_are_taken_where_a_float_is_meant():
    raw = {**json.loads(event().to_bytes()), "onset_s": 1, "peak_score": 1}
    assert Event.from_bytes(json.dumps(raw).encode()).onset_s == 1.0


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b"{", b"\xff\xfe", b"[" * 4_000, b'{"schema": 1}'])
def test_what_is_no_message_is_a_wire_error(payload):
    for message in (Event, Receipt, ScoreTrack):
        with pytest.raises(WireError):
            message.from_bytes(payload)


@given(
    st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda value: json.dumps(value).encode())
)
def test_arbitrary_bytes_never_raise_anything_but_a_wire_error(payload):
    for message in (Event, Receipt, ScoreTrack):
        with pytest.raises(WireError):
            message.from_bytes(payload)


def test_a_receipt_survives_the_wire():
    receipt = Receipt("3f6c", SHA, "2026-01-31T12:00:01+00:00", (0,), (3,))
    assert Receipt.from_bytes(receipt.to_bytes()) == receipt


@pytest.mark.parametrize("change", [{"event_sha256": "x"}, {"tiers_held": 3}, {"tiers_missing": ["all"]}, {"tiers_held": None}])
def test_a_receipt_of_another_form_is_a_wire_error(change):
    raw = {**json.loads(Receipt("3f6c", SHA, "now", (), ()).to_bytes()), **change}
    with pytest.raises(WireError):
        Receipt.from_bytes(json.dumps(raw).encode())


def test_a_score_track_survives_the_wire_to_four_decimals():
    assert ScoreTrack.from_bytes(track().to_bytes()) == track()
    assert ScoreTrack.from_bytes(track(scores={"cry": (0.123456,)}, thresholds={}).to_bytes()).scores == {"cry": (0.1235,)}
    assert track().duration_s == pytest.approx(0.16)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 9},
        {"start_s": -1.0},
        {"hop_s": 0.0},
        {"scores": {}},
        {"scores": {"thunder": (0.5,)}},
        {"scores": {"scream": (0.5,), "cry": ()}},
        {"scores": {"scream": (), "speech": ()}},
        {"scores": {"scream": (1.5,)}},
        {"thresholds": {"cry": 0.5}},
        {"thresholds": {"scream": 2.0}},
    ],
)
def test_every_invariant_of_a_score_track_fires(change):
    with pytest.raises(WireError):
        track(**change)
