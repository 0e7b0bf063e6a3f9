from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import krippendorff
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from typer.testing import CliRunner

from earmark_review.accounts import Role
from earmark_review.agreement import Look, Share, agreement_by_sound, agreement_in, alpha, week_of
from earmark_review.cases import LABELS_OF_VERDICTS, Queue, Verdict
from earmark_review.cli import app
from earmark_review.store.golden import add_golden
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


def librarys_alpha(rows):
    """The library's alpha of a reliability matrix, a row for each coder and a column for each case, None where nobody labelled."""
    matrix = np.array([[np.nan if label is None else LABELS_OF_VERDICTS.index(label) for label in row] for row in rows], dtype=float)
    paired = matrix[:, (~np.isnan(matrix)).sum(axis=0) > 1]
    if len(np.unique(paired[~np.isnan(paired)])) < 2:
        return None, paired.shape[1]
    return krippendorff.alpha(reliability_data=matrix, level_of_measurement="nominal"), paired.shape[1]


MATRICES = some.integers(2, 4).flatmap(
    lambda coders: some.lists(some.lists(some.sampled_from([None, *Verdict]), min_size=coders, max_size=coders), min_size=1, max_size=12)
)
"""For each case what each coder said, None where they were not asked."""


@given(MATRICES)
def test_alpha_is_the_librarys_own_of_the_reliability_matrix(said):
    labels = [[None if verdict is Verdict.ESCALATE else verdict for verdict in case] for case in said]
    expected, _ = librarys_alpha(list(zip(*labels, strict=True)))
    found = alpha([[verdict for verdict in case if verdict is not None] for case in said])
    assert found == (expected if expected is None else pytest.approx(expected))


def librarys_of(compared):
    """The same of looks and what was said before each; of a case the latest look counts."""
    cases = {one.case_id: [*earlier, one] for one, earlier in compared}
    labels = [[None if look.verdict is Verdict.ESCALATE else look.verdict for look in case] for case in cases.values()]
    most = max(map(len, labels), default=1)
    found, count = librarys_alpha(list(zip(*(case + [None] * (most - len(case)) for case in labels), strict=True)) or [[]])
    return found if found is None else pytest.approx(found), count


NOW = datetime(2026, 3, 1, 20, tzinfo=UTC)
SINCE = NOW - timedelta(weeks=4)
HISTORIES = some.lists(
    some.tuples(
        some.sampled_from(["cry", "scream"]),
        some.lists(some.tuples(some.integers(0, 40), some.sampled_from(Verdict)), min_size=1, max_size=3),
        some.lists(some.tuples(some.integers(41, 60), some.sampled_from(Verdict)), max_size=3),
    ),
    max_size=10,
)
"""Cases: the sound, the days and verdicts of a first, a second and a senior's look, and those of the same case as a golden one, later."""


@given(HISTORIES)
def test_a_queues_agreement_is_the_librarys_of_what_was_said_there_and_before_in_all_and_week_by_week(histories):
    looks, rows = [], {queue: [] for queue in Queue}
    for number, (label, path, as_golden) in enumerate(histories):
        at = [NOW - timedelta(days=60 - day) for day, _ in sorted(path, key=lambda one: one[0])]
        usual = [Look(str(number), label, queue, said, when) for queue, (_, said), when in zip(Queue, path, at, strict=False)]
        golden = [Look(str(number), label, Queue.FIRST, said, NOW - timedelta(days=60 - day)) for day, said in sorted(as_golden)]
        looks += [*usual, *golden]
        first = [usual[0], *golden]
        rows[Queue.FIRST] += [(one, first[:i]) for i, one in enumerate(first)]
        rows[Queue.SECOND] += [(one, usual[:1]) for one in usual[1:2]]
        rows[Queue.ADJUDICATION] += [(one, usual[:2]) for one in usual[2:]]
    looks.sort(key=lambda one: one.decided_at)
    for queue in Queue:
        found = agreement_in(queue, looks, SINCE)
        recent = [(one, earlier) for one, earlier in rows[queue] if one.decided_at > SINCE]
        assert (found.whole.alpha, found.whole.count) == librarys_of(recent)
        by_week = {
            week: [pair for pair in recent if week_of(pair[0].decided_at) == week]
            for week in {week_of(one.decided_at) for one, _ in recent}
        }
        expected = {week: librarys_of(pairs) for week, pairs in by_week.items()}
        assert {week: (one.alpha, one.count) for week, one in found.weeks.items()} == {k: v for k, v in expected.items() if v[1]}
    recent = [pair for pair in rows[Queue.SECOND] if pair[0].decided_at > SINCE]
    expected = {sound: librarys_of([pair for pair in recent if pair[0].label == sound]) for sound in ("cry", "scream")}
    by_sound = agreement_by_sound(looks, SINCE)
    assert {sound: (one.alpha, one.count) for sound, one in by_sound.items()} == {k: v for k, v in expected.items() if v[1]}


def test_wilsons_interval_holds_its_share_and_the_known_value():
    low, high = Share(8, 10).interval
    assert (low, high) == (pytest.approx(0.4902, abs=1e-3), pytest.approx(0.9433, abs=1e-3))
    assert Share(0, 0).interval == (0, 1)
    assert Share(5, 5).interval[1] == 1


@pytest.fixture
def busy(open_house, make_sending):
    house = open_house(second_review_share=1)
    sender, quinn, bea = house.device(), house.user("quinn"), house.user("bea")  # not ada, whom a token in hexadecimal may spell
    for number, (first, second) in enumerate([("distress", "distress"), ("play", "play"), ("media", "play")]):
        sender.send(make_sending(f"event-{number}", "cry", masked=True))
        [case_id] = quinn.case_ids()
        quinn.decide(case_id, first)
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
    said = by_hand([(D, D), (P, P), (M, P)])
    assert {sound: (one.count, one.alpha) for sound, one in seen.by_sound.items()} == {"cry": (3, pytest.approx(said))}
    first, second, disputes = seen.agreement
    assert (first.whole.count, disputes.whole.count) == (0, 0)  # nobody saw a golden case, and the dispute ran out
    assert {week: (one.count, one.alpha) for week, one in second.weeks.items()} == {"2026-W09": (3, pytest.approx(said))}
    assert [one.device.name for one in seen.devices] == ["kitchen"]
    assert seen.depths[0].ages == (1, 0, 0, 0, 0)
    assert [(share.hits, share.count) for share in seen.expired_by_week.values()] == [(0, 2), (2, 2)]
    assert [sum(one.counts) for one in seen.drift] == [4, 1]


def test_the_page_shows_them_to_supervisors_and_names_no_reviewer(busy):
    page = busy.user("sam", Role.SUPERVISOR).client.get("/figures").text
    assert "1 of 2" in page
    assert "quinn" not in page
    assert busy.browser("quinn").client.get("/figures").status_code == 403


def test_each_queues_agreement_is_drawn_with_its_numbers_week_by_week(open_house, make_sending):
    house = open_house(second_review_share=1, golden_share=1)
    sender, sam = house.device(), house.user("sam", Role.SUPERVISOR)
    people = [house.user(name) for name in ("ada", "bea", "cyd")]
    house.consent(may_train=True)

    def judge(number, *answers):
        sender.send(make_sending(f"event-{number}", "cry", masked=True))
        [case_id] = people[0].case_ids()
        for person, answer in zip((*people[:2], sam), answers, strict=False):
            person.decide(case_id, answer)
        return case_id

    golden = [judge(0, "distress", "distress"), judge(1, "play", "play")]
    judge(2, "media", "play", "media")
    house.clock.advance(7 * 86_400)
    sam = house.browser("sam")
    with house.service.database.writing() as conn:
        for case_id, expected in zip(golden, (D, P), strict=True):
            add_golden(conn, case_id, expected, house.clock())
    cyd = house.browser("cyd")
    for case_id, answer in zip(golden, ("distress", "distress"), strict=True):
        cyd.decide(case_id, answer)

    page = sam.client.get("/figures").text
    pictures = re.findall(r'aria-label="Krippendorff&#39;s alpha of (.*?) by week. (.*?)"', page)
    numbers = {
        queue: by_hand_in_words(pairs) for queue, pairs in {"first look": [(D, D), (P, D)], "second look": [(D, D), (P, P), (M, P)]}.items()
    }
    assert pictures == [
        ("first look", f"2026-W10: {numbers['first look']} (2 cases)"),
        ("second look", f"2026-W09: {numbers['second look']} (3 cases)"),
        ("disputes", "2026-W09: 0.00 (1 case)"),  # one case of two labels says what chance does
    ]
    assert [f">{number}</text>" in page for number in numbers.values()] == [True, True]
    with house.service.database.reading() as conn:
        told = exposition(conn, house.service.settings.limits, house.clock())
    assert re.findall(r'queue_agreement_cases{queue="(\w+)"} (\d)', told) == [("first", "2"), ("second", "3"), ("adjudication", "1")]
    assert f'earmark_review_queue_agreement_alpha{{queue="second"}} {by_hand([(D, D), (P, P), (M, P)]):.10g}' in told


def by_hand_in_words(pairs):
    return f"{by_hand(pairs):.2f}".replace("-", "\N{MINUS SIGN}")


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
    assert not any(name in words for name in ("kitchen", "quinn", "bea", "consent"))
    for line in words.splitlines():
        assert line.startswith(("# TYPE ", "# HELP ")) or float(line.rpartition(" ")[2]) >= -1
