from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from earmark_review.accounts import Role
from earmark_review.agreement import Agreement, Share, week_of
from earmark_review.charts import alpha_trend, bars, share_trend, weeks_until
from earmark_review.store.drift import BINS, LEAST, compared, drift, js_distance


def test_the_distance_is_what_its_definition_gives():
    one, other = np.array([4, 4, 2]), np.array([1, 3, 6])
    p, q = one / one.sum(), other / other.sum()
    middle = (p + q) / 2
    divergence = (np.sum(p * np.log2(p / middle)) + np.sum(q * np.log2(q / middle))) / 2
    assert js_distance(one, other) == pytest.approx(np.sqrt(divergence))
    assert js_distance(np.array([5, 0]), np.array([0, 9])) == pytest.approx(1)
    assert js_distance(one, 7 * one) == pytest.approx(0, abs=1e-7)


def test_a_week_like_the_others_is_not_called_shifted_and_another_is():
    rng = np.random.default_rng(5)
    weeks = {f"2026-W{week:02}": rng.beta(8, 2, 60) for week in range(10, 16)}
    weeks["2026-W16"] = rng.beta(2, 4, 60)
    told = compared("a", weeks)
    assert told[0].distance is None  # nothing came before
    assert [one.is_shifted for one in told[1:6]].count(True) <= 1
    assert told[6].is_shifted
    assert told[6].before == tuple(np.sum([one.counts for one in told[:6]], axis=0))


def test_few_events_lie_far_apart_by_chance_and_fewer_are_not_compared():
    rng = np.random.default_rng(6)
    few = compared("a", {"2026-W10": rng.random(LEAST), "2026-W11": rng.random(LEAST)})[1]
    many = compared("a", {"2026-W10": rng.random(500), "2026-W11": rng.random(500)})[1]
    assert few.chance > 3 * many.chance
    assert compared("a", {"2026-W10": rng.random(100), "2026-W11": rng.random(LEAST - 1)})[1].distance is None


def test_the_extreme_scores_are_counted_too():
    [one] = compared("a", {"2026-W10": [0.0, 0.1, 1.0]})
    assert (one.counts[0], one.counts[1], one.counts[-1], sum(one.counts), len(one.counts)) == (1, 1, 1, 3, BINS)


def test_each_model_is_compared_with_itself(house, sender, make_sending, clock):
    for week in range(2):
        for i in range(LEAST):
            for model, score in (("a", 0.9), ("c", 0.9 if week == 0 else 0.2)):
                sender.post(make_sending(f"{model}-{week}-{i}", clips=(), peak_score=score, model_sha256=64 * model).payload)
        clock.advance(7 * 86400)
    with house.service.database.reading() as conn:
        told = drift(conn, clock() - timedelta(weeks=8))
    assert [(one.model[0], one.distance) for one in told] == [("a", None), ("a", 0.0), ("c", None), ("c", 1.0)]
    assert [one.is_shifted for one in told] == [False, False, False, True]
    page = house.user("sam", Role.SUPERVISOR).client.get("/figures").text
    assert page.count('<span class="alert-word">shifted</span>') == 1
    assert "Week 2026-W10, 5 events by peak score from 0 to 1 in tenths: 0, 0, 5, 0, 0, 0, 0, 0, 0, 0" in page


def test_the_charts_weeks_end_now_and_cross_the_new_year(clock):
    assert weeks_until(clock(), 2) == ["2026-W08", week_of(clock())]
    assert weeks_until(clock() - timedelta(days=62), 2) == ["2025-W52", "2026-W01"]


def test_points_stand_over_their_weeks_and_empty_weeks_have_none():
    weeks = ["2026-W01", "2026-W02", "2026-W03", "2026-W04"]
    [first, second] = share_trend({"2026-W01": Share(1, 2), "2026-W03": Share(0, 0), "2026-W04": Share(3, 3)}, weeks)
    assert (first.left, second.left, second.value) == (12.5, 87.5, 1.0)
    assert first.low < first.value < first.high
    agreed = {"2026-W01": Agreement(1, -0.001), "2026-W02": Agreement(4, -0.5), "2026-W03": Agreement(2, None)}
    [nought, below] = alpha_trend(agreed, weeks)
    assert (below.value, below.words, below.number) == (0.25, "2026-W02: \N{MINUS SIGN}0.50 (4 cases)", "\N{MINUS SIGN}0.50")
    assert (nought.words, nought.number) == ("2026-W01: 0.00 (1 case)", "0.00")


def test_bars_are_as_tall_as_their_counts():
    assert [(bar.left, bar.height) for bar in bars([1, 0, 4, 2], 4)] == [(0, 25), (25, 0), (50, 100), (75, 50)]
    assert [bar.height for bar in bars([0, 0], 0)] == [0, 0]
