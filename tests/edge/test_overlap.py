"""Windows that take over what the one before has computed score as windows do that are scored as a whole."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from earmark_edge.detector import Detector
from earmark_edge.overlap import OverlapScorer
from earmark_edge.scorer import Scorer, ScoringError
from earmark_edge.settings import default_bundle
from earmark_edge.window import Windower

WINDOW, HOP = 32_000, 8_000


@pytest.fixture(scope="module")
def shipped() -> Scorer:
    return Scorer(default_bundle())


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    """Seven seconds whose level jumps by 60 dB, so that each window has a gain of its own."""
    rng = np.random.default_rng(8)
    levels = np.repeat([0.3, 0.0003, 0.03, 0.3, 0.0, 0.001, 0.1], 16_000)
    return (rng.standard_normal(levels.size) * levels)[:-1234].astype(np.float32)


def windows_of(samples, hop=HOP, cuts=()):
    """The stream's windows in the lists in which they came."""
    windower = Windower(WINDOW, hop)
    fed = [windower.feed(part) for part in np.split(samples, sorted(cuts))]
    return [windows for windows in (*fed, windower.flush()) if windows]


def assert_equal_to_whole(scorer, samples, lists, *, hop=HOP):
    """1e-6 of a probability: products of another size may sum in another order."""
    whole = [scorer.run(window.samples[None]) for windows in windows_of(samples, hop) for window in windows]
    overlap = OverlapScorer(scorer)
    found = [overlap.run(windows) for windows in lists]
    np.testing.assert_allclose(np.concatenate([s.clip for s in found]), np.concatenate([s.clip for s in whole]), atol=1e-6, rtol=0)
    np.testing.assert_allclose(np.concatenate([s.frame for s in found]), np.concatenate([s.frame for s in whole]), atol=1e-6, rtol=0)


def test_the_shipped_bundle_takes_over_mel_power(shipped):
    assert shipped.spec.mel_hop_samples == 160


@given(st.lists(st.integers(0, 110_766), max_size=12))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_chunking_scores_as_whole_windows_do(shipped, sound, cuts):
    assert_equal_to_whole(shipped, sound, windows_of(sound, cuts=cuts))


@pytest.mark.parametrize("hop", [160, 8_000, 24_000, 31_840, 32_000])
def test_any_hop_of_whole_mel_frames_scores_as_whole_windows_do(write_bundle, tmp_path, sound, hop):
    scorer = Scorer(write_bundle(tmp_path, schema=2, mel_hop_samples=160, hop_samples=hop))
    short = sound[: WINDOW + 5 * hop]
    assert_equal_to_whole(scorer, short, windows_of(short, hop), hop=hop)


def test_a_hop_that_cuts_a_mel_frame_is_scored_as_whole_windows(write_bundle, tmp_path, sound):
    scorer = Scorer(write_bundle(tmp_path, schema=2, mel_hop_samples=160, hop_samples=HOP + 1))
    short = sound[: WINDOW + 3 * HOP]
    assert_equal_to_whole(scorer, short, windows_of(short, HOP + 1), hop=HOP + 1)


def test_after_a_reset_nothing_of_the_old_stream_is_heard(overlapping_scorer, play):
    detector = Detector(overlapping_scorer)
    detector.feed(play(("scream", 2.4)))
    held = detector._scorer._held
    assert held.any()
    detector.reset()
    assert not held.any()  # overwritten, not only let go
    heard = detector.feed(play(("", 3)))
    assert max(window.clip_scores.max() for window in heard.windows) < 0.01


def test_after_a_failed_score_the_next_window_is_scored_as_a_whole(overlapping_scorer, sound, monkeypatch):
    first, second, third = (windows for windows in windows_of(sound[: WINDOW + 2 * HOP], cuts=[WINDOW, WINDOW + HOP]))
    overlap = OverlapScorer(overlapping_scorer)
    overlap.run(first)
    with monkeypatch.context() as patched:
        patched.setattr(Scorer, "_checked", lambda *_: (_ for _ in ()).throw(ScoringError("unfit")))
        with pytest.raises(ScoringError):
            overlap.run(second)
    np.testing.assert_allclose(overlap.run(third).clip, overlapping_scorer.run(third[0].samples[None]).clip, atol=1e-6, rtol=0)


def test_a_graph_without_what_its_schema_promises_is_refused(write_bundle, tmp_path, bundle):
    import onnx  # noqa: PLC0415

    from earmark_model.contract import GRAPH_FILE, BundleError  # noqa: PLC0415

    with pytest.raises(BundleError, match=r"expected \['audio', 'held'\] to"):
        Scorer(write_bundle(tmp_path, graph=onnx.load(bundle / GRAPH_FILE), schema=2, mel_hop_samples=160))
