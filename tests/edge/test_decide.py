import ast
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from earmark_edge import decide, spans, timeline
from earmark_edge.decide import DecideConfig, DecideConfigError, Decider, Decision, Rules
from earmark_model.contract import LABELS, BundleError, BundleSpec, Guarantee, Reason, Threshold

GUARANTEE = Guarantee(0.05, 0.05, 59, 0, "c" * 64)


def spec(*, verified=LABELS, thresholds=0.5, thresholds_of=LABELS, **changes):
    values = dict.fromkeys(LABELS, thresholds) if isinstance(thresholds, float) else {**dict.fromkeys(LABELS, 0.5), **thresholds}
    fields_ = {
        "labels": LABELS,
        "sensitive": ("scream", "cry", "baby_cry"),
        "sample_rate_hz": 16_000,
        "window_samples": 32_000,
        "hop_samples": 8_000,
        "frame_hop_samples": 1_280,
        "thresholds": {label: Threshold(values.get(label, 0.5), GUARANTEE if label in verified else None) for label in thresholds_of},
        "graph_sha256": "a" * 64,
        **changes,
    }
    return BundleSpec(**fields_)


def scores(**given_scores):
    return np.array([given_scores.get(label, 0.0) for label in LABELS], np.float32)


def decisions(*windows, config=None, **spec_changes):
    decider = Decider(Rules(spec(**spec_changes), config or DecideConfig()))
    return [decider.decide(window) for window in windows]


def reasons(*windows, **given_):
    return [decision.reason.value for decision in decisions(*windows, **given_)]


def test_a_score_at_its_threshold_flags_and_just_below_does_not():
    at, below = np.float32(0.5), np.nextafter(np.float32(0.5), np.float32(0))
    assert reasons(scores(scream=at)) == ["above_threshold"]
    assert reasons(scores(scream=below)) == ["below_threshold"]


def test_without_a_guarantee_the_same_score_is_routed_unverified():
    assert reasons(scores(scream=0.9), verified=("cry", "baby_cry")) == ["routed_unverified"]
    assert reasons(scores(cry=0.9), verified=("cry", "baby_cry")) == ["above_threshold"]


def test_an_open_event_is_held_until_all_routed_scores_fall_below_the_lower_threshold():
    track = [scores(scream=value) for value in (0.4, 0.6, 0.31, 0.29, 0.31)]
    assert reasons(*track, config=DecideConfig(hysteresis_ratio=0.6)) == [
        "below_threshold",
        "above_threshold",
        "held_by_hysteresis",
        "below_threshold",
        "below_threshold",
    ]


def test_another_sensitive_label_can_hold_what_one_opened():
    assert reasons(scores(scream=0.6), scores(cry=0.4), scores(speech=0.9)) == ["above_threshold", "held_by_hysteresis", "speech_only"]


def test_speech_alone_is_speech_only_and_faint_speech_is_not():
    assert reasons(scores(speech=0.5), scores(speech=0.49), scores(laughter=0.9)) == ["speech_only", "below_threshold", "below_threshold"]


def test_a_window_that_is_held_is_not_called_speech_however_loud_the_speech():
    assert reasons(scores(scream=0.9), scores(scream=0.4, speech=1.0))[1] == "held_by_hysteresis"


def test_the_whole_vector_is_read_and_not_the_highest_scores():
    crowded = scores(scream=0.5, speech=0.99, laughter=0.98, other=0.97, shout=0.96, cry=0.2, baby_cry=0.1)
    decision = decisions(crowded)[0]
    assert (decision.reason, decision.label) == (Reason.ABOVE_THRESHOLD, "scream")


@given(st.lists(st.floats(0, 1, width=32), min_size=len(LABELS), max_size=len(LABELS)), st.floats(0.05, 1))
def test_a_window_is_flagged_exactly_if_a_sensitive_score_reaches_its_threshold(values, threshold):
    window = np.array(values, np.float32)
    decision = decisions(window, thresholds=threshold)[0]
    assert decision.is_flagged == any(values[LABELS.index(label)] >= threshold for label in ("scream", "cry", "baby_cry"))
    if decision.is_flagged:
        assert decision.score >= decision.threshold


def test_the_label_is_the_one_largest_relative_to_its_threshold():
    decision = decisions(scores(scream=0.9, cry=0.3), thresholds={"scream": 0.8, "cry": 0.1})[0]
    assert decision == Decision(Reason.ABOVE_THRESHOLD, "cry", pytest.approx(0.3), 0.1)


def test_a_threshold_of_zero_routes_everything():
    decision = decisions(scores(), thresholds={"cry": 0.0})[0]
    assert (decision.reason, decision.label) == (Reason.ABOVE_THRESHOLD, "cry")


def test_shout_is_reported_but_routed_only_where_the_policy_says_so():
    assert reasons(scores(shout=0.9)) == ["below_threshold"]
    assert reasons(scores(shout=0.9), config=DecideConfig(route_also=("shout",))) == ["above_threshold"]


def test_a_reset_closes_what_was_open():
    decider = Decider(Rules(spec(), DecideConfig()))
    decider.decide(scores(scream=0.9))
    decider.reset()
    assert decider.decide(scores(scream=0.4)).reason is Reason.BELOW_THRESHOLD


def test_a_bundle_with_other_labels_is_refused_because_events_could_not_say_what_was_heard():
    other = spec(labels=("scream", "bark"), sensitive=("scream",), thresholds={}, thresholds_of=("scream", "bark"))
    with pytest.raises(BundleError, match="bark"):
        Rules(other, DecideConfig())


@pytest.mark.parametrize(
    "knob",
    [
        {"hysteresis_ratio": 0.0},
        {"hysteresis_ratio": 1.01},
        {"hysteresis_ratio": float("nan")},
        {"margin_s": -0.1},
        {"margin_s": float("inf")},
        {"min_event_s": -1.0},
        {"merge_gap_s": float("nan")},
        {"speech_cut_s": 0.0},
        {"speech_cut_s": float("nan")},
        {"max_event_s": 0.5, "min_event_s": 0.1},
        {"max_event_s": 5.0, "min_event_s": 6.0},
        {"max_event_s": float("inf")},
    ],
)
def test_every_invariant_of_the_configuration_fires_and_names_its_knob(knob):
    with pytest.raises(DecideConfigError, match=next(iter(knob))):
        DecideConfig(**knob)


def test_routing_a_label_that_the_bundle_does_not_score_is_an_error():
    with pytest.raises(DecideConfigError, match="glass"):
        Rules(spec(), DecideConfig(route_also=("glass",)))


OTHER = {
    "hysteresis_ratio": 0.7,
    "margin_s": 0.3,
    "min_event_s": 1.1,
    "max_event_s": 61.0,
    "merge_gap_s": 2.1,
    "speech_cut_s": 0.6,
    "route_also": ("shout",),
}


@pytest.mark.parametrize("name", [field.name for field in fields(DecideConfig)])
def test_the_hash_moves_with_every_knob(name):
    assert Rules(spec(), DecideConfig(**{name: OTHER[name]})).sha256 != Rules(spec(), DecideConfig()).sha256


@pytest.mark.parametrize(
    "changed", [{"thresholds": {"cry": 0.49}}, {"verified": ("cry",)}, {"graph_sha256": "b" * 64}, {"hop_samples": 4_000}]
)
def test_the_hash_moves_with_thresholds_guarantees_graph_and_geometry(changed):
    assert Rules(spec(**changed), DecideConfig()).sha256 != Rules(spec(), DecideConfig()).sha256


def test_the_hash_is_the_same_for_the_same_rules_and_knows_no_provenance():
    assert Rules(spec(provenance={"commit": "1"}), DecideConfig()).sha256 == Rules(spec(), DecideConfig(**asdict(DecideConfig()))).sha256


@pytest.mark.parametrize("module", [decide, spans, timeline])
def test_deciding_imports_nothing_that_does_io(module):
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    pure = {"__future__", "collections.abc", "dataclasses", "functools", "hashlib", "json", "math", "numpy", "numpy.typing"}
    assert imported, "nothing was looked at"
    assert imported <= pure | {"earmark_edge.decide", "earmark_edge.timeline", "earmark_model.contract"}
