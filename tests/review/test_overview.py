from __future__ import annotations

import re

import numpy as np
import pytest
from typer.testing import CliRunner

from earmark_review.accounts import Role
from earmark_review.agreement import Share, alpha
from earmark_review.cases import Verdict
from earmark_review.cli import app
from earmark_review.store.overview import overview
from earmark_review.store.service_figures import exposition

D, P, M, E = Verdict.DISTRESS, Verdict.PLAY, Verdict.MEDIA, Verdict.ESCALATE


def by_hand(pairs):
    """Nominal alpha for two looks a case, from the coincidence matrix (Krippendorff, 2011)."""
    values = [verdict for pair in pairs for verdict in pair]
    n = len(values)
    observed = sum(2 for first, second in pairs if first is not second) / n
    counts = np.array([values.count(verdict) for verdict in set(values)])
    return 1 - observed * n * (n - 1) / (n * n - np.sum(counts**2))


@pytest.mark.parametrize("pairs", [[(D, D), (P, P)], [(D, P), (P, D)], [(D, D), (D, P), (M, M), (P, P), (M, P)]])
def test_alpha_is_what_its_definition_gives(pairs):
    assert alpha(pairs) == pytest.approx(by_hand(pairs))


def test_alpha_says_nothing_of_one_label_or_of_single_looks():
    assert alpha([]) is None
    assert alpha([(D, D), (D, D)]) is None
    assert alpha([(D,), (P,)]) is None
    assert alpha([(D, E), (P, E)]) is None  # an escalation is no label


def test_wilsons_interval_holds_its_share_and_the_known_value():
    low, high = Share(8, 10).interval
    assert (low, high) == (pytest.approx(0.4902, abs=1e-3), pytest.approx(0.9433, abs=1e-3))
    assert Share(0, 0).interval == (0, 1)
    assert Share(5, 5).interval[1] == 1


@pytest.fixture
def busy(open_house, make_sending):
    house = open_house(second_review_share=1)
    sender, ada, bea = house.device(), house.user("ada"), house.user("bea")
    for number, (first, second) in enumerate([("distress", "distress"), ("play", "play"), ("media", "play")]):
        sender.send(make_sending(f"event-{number}", "cry", masked=True))
        [case_id] = ada.case_ids()
        ada.decide(case_id, first)
        bea.decide(case_id, second)
    sender.send(make_sending("late", "cry", masked=True))
    house.clock.advance(72 * 3600)
    house.service.shred_due()
    sender.send(make_sending("new", "cry", masked=True))
    return house


def test_the_figures_are_those_of_the_cases(busy):
    with busy.service.database.reading() as conn:
        seen = overview(conn, busy.clock())
    assert [depth.count for depth in seen.depths] == [1, 0, 0]
    assert (seen.expired.hits, seen.expired.count) == (2, 4)  # the dispute ran out, too
    assert [(one.share.hits, one.share.count) for one in seen.precision] == [(1, 2)]
    assert [(one.name, one.cases) for one in seen.by_sound] == [("cry", 3)]
    assert seen.by_sound[0].alpha == pytest.approx(by_hand([(D, D), (P, P), (M, P)]))
    assert [one.device.name for one in seen.devices] == ["kitchen"]
    assert seen.depths[0].ages == (1, 0, 0, 0, 0)
    assert [(share.hits, share.count) for share in seen.expired_by_week.values()] == [(0, 2), (2, 2)]
    assert [sum(one.counts) for one in seen.drift] == [4, 1]


def test_the_page_shows_them_to_supervisors_and_names_no_reviewer(busy):
    page = busy.user("sam", Role.SUPERVISOR).client.get("/figures").text
    assert "1 of 2" in page
    assert "ada" not in page
    assert busy.browser("ada").client.get("/figures").status_code == 403


def test_how_long_cases_wait_is_drawn_too(busy):
    page = busy.user("sam", Role.SUPERVISOR).client.get("/figures").text
    [first, *_] = re.findall(r"First look</th>(.*?)</tr>", page, re.DOTALL)
    widths = re.findall(r'meter-under.*?meter-fill" width="([\d.]+)%"', first)
    assert widths == ["100.0", "0.0", "0.0", "0.0", "0.0"]  # the only one that waits has come within the hour


def test_prometheus_gets_numbers_and_no_names(busy, monkeypatch):
    if busy.service.settings.database is not None:
        monkeypatch.setenv("EARMARK_REVIEW_DATABASE", busy.service.settings.database)
    with busy.service.database.reading() as conn:
        words = exposition(conn, busy.service.settings.limits, busy.clock())
    printed = CliRunner().invoke(app, ["metrics", "--data", str(busy.data)]).stdout
    assert 'earmark_review_waiting{queue="first"} 1' in printed
    assert 'earmark_review_waiting{queue="first"} 1' in words
    assert 'earmark_review_agreement_alpha{sound="cry"}' in words
    assert not any(name in words for name in ("kitchen", "ada", "bea", "consent"))
    for line in words.splitlines():
        assert line.startswith(("# TYPE ", "# HELP ")) or float(line.rpartition(" ")[2]) >= -1
