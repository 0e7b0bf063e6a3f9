import numpy as np
import pytest
from tests.edge.conftest import GUARANTEE, play

from earmark_edge.decide import DecideConfig
from earmark_edge.detector import Detector
from earmark_edge.listen.shadow import PASSED, Shadow, Terms, UnfitError
from earmark_edge.scorer import Scorer
from earmark_model.contract import LABELS, Threshold

RATE_HZ = 16_000
TERMS = Terms(canaries=2, every_s=30.0)
CANARY = play(("scream", 3.0))
"""What the tone bundles hear as a scream."""


@pytest.fixture(scope="module")
def bundle_with(write_bundle, tmp_path_factory):
    def make(**changes):
        return Scorer(write_bundle(tmp_path_factory.mktemp("b"), **changes))

    return make


@pytest.fixture(scope="module")
def deaf(bundle_with):
    return bundle_with(thresholds={label: Threshold(1.0, GUARANTEE) for label in LABELS})


def outcome(new, running, sound, *, resets=(), terms=TERMS):
    """What comes of a trial while `sound` plays, and after how many seconds of it."""
    shadow, detector = Shadow(new, running, DecideConfig(), terms, CANARY), Detector(running)
    for number, start in enumerate(range(0, len(sound), 1_600)):
        if number in resets:
            shadow.reset()
            detector.reset()
        samples = sound[start : start + 1_600]
        heard = detector.feed(samples)
        if found := shadow.feed(samples, heard, is_busy=detector.has_open_event):
            return found, (start + len(samples)) / RATE_HZ
    return "", len(sound) / RATE_HZ


def quiet(seconds):
    return np.random.default_rng(3).normal(0, 1e-3, round(seconds * RATE_HZ)).astype(np.float32)


def test_a_bundle_passes_once_it_has_heard_its_canaries(scorer, bundle_with):
    found, after_s = outcome(bundle_with(), scorer, quiet(90))
    assert found == PASSED
    assert 40 < after_s < 60, "one after ten seconds, the other half a minute later"
    assert outcome(bundle_with(), scorer, quiet(39))[0] == ""


def test_a_bundle_that_misses_a_canary_which_the_running_one_hears_fails(scorer, deaf):
    assert outcome(deaf, scorer, quiet(60))[0] == "canary_missed"


def test_a_canary_that_both_miss_says_nothing_about_the_new_one(deaf):
    assert outcome(deaf, deaf, quiet(120))[0] == ""


def test_a_bundle_may_hear_what_the_running_one_misses(deaf, scorer):
    assert outcome(scorer, deaf, quiet(90))[0] == PASSED


def test_a_bundle_that_flags_talk_fails_though_it_hears_every_canary(scorer, bundle_with):
    eager = bundle_with(thresholds={label: Threshold(1e-7, GUARANTEE) for label in LABELS})
    talk = play(("speech", 60)) + quiet(60)
    assert outcome(eager, scorer, talk)[0] == "flags_too_much"
    assert outcome(bundle_with(), scorer, np.concatenate([talk, quiet(60)]))[0] == PASSED


def test_real_screams_that_both_flag_are_no_mark_against_it(scorer, bundle_with):
    sound = np.concatenate([play(("scream", 30)), quiet(90)])
    assert outcome(bundle_with(), scorer, sound)[0] == PASSED


def test_a_stream_that_is_cut_off_again_and_again_ends_no_trial(scorer, bundle_with):
    cuts = range(0, 600, 90)  # every nine seconds, before the first canary
    assert outcome(bundle_with(), scorer, quiet(60), resets=cuts)[0] == ""
    assert outcome(bundle_with(), scorer, quiet(90), resets=[250])[0] == PASSED


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sensitive": ("scream", "cry", "baby_cry", "speech")}, "calls speech sensitive"),
        ({"sample_rate_hz": 8_000}, "8000 Hz"),
        ({"labels": LABELS[1:], "thresholds": {label: Threshold(0.5) for label in LABELS[1:]}, "sensitive": ("cry",)}, "label"),
    ],
)
def test_a_bundle_that_cannot_stand_in_for_the_running_one_is_unfit(scorer, bundle_with, changes, said):
    with pytest.raises(UnfitError, match=said):
        Shadow(bundle_with(**changes), scorer, DecideConfig(), TERMS)


def test_a_graph_that_gives_no_scores_is_unfit(scorer, bundle_with, monkeypatch):
    broken = bundle_with()
    real = broken._session.run
    session = type("Session", (), {"run": lambda _self, names, inputs: [part * np.nan for part in real(names, inputs)]})()
    monkeypatch.setattr(broken, "_session", session)
    assert outcome(broken, scorer, quiet(10))[0] == "unfit"
