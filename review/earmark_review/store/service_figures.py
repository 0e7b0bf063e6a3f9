"""Counts of what the service did and is doing, without the name of any household, device or person: for those who run it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from earmark_review.audit import Action
from earmark_review.store.canaries import reports
from earmark_review.store.exposures import exposure_of
from earmark_review.store.overview import Overview, overview
from earmark_review.store.schema import audit_log, exposures, leases, original_requests
from earmark_review.wellness import Limits

_COUNTED: Mapping[Action, tuple[str, str]] = {
    Action.EVENT_RECEIVED: ("events_received", "Events taken from devices"),
    Action.OBJECT_HELD: ("objects_held", "Objects of events taken whole"),
    Action.OBJECT_DROPPED: ("objects_dropped", "Objects that devices gave up"),
    Action.EVENT_CONFLICT: ("event_conflicts", "Event ids sent again with other content"),
    Action.EVENT_REPLAYED: ("events_replayed", "Deleted events sent again"),
    Action.EVENT_UNCONSENTED: ("events_not_agreed_to", "Events refused to which their household had not agreed"),
    Action.SIGNATURE_REFUSED: ("signatures_refused", "Messages that their device did not sign"),
    Action.CASE_DECIDED: ("verdicts", "Verdicts given"),
    Action.CASE_ESCALATED: ("escalations", "Cases escalated"),
    Action.CASE_EXPIRED: ("deadline_misses", "Cases that nobody decided in time"),
    Action.CASE_WITHDRAWN: ("cases_withdrawn", "Undecided cases that their household withdrew"),
    Action.CANARY_MISSED: ("canary_alarms", "Canaries that newly went missed"),
    Action.SIGN_IN_REFUSED: ("sign_ins_refused", "Sign-ins refused"),
    Action.ORIGINAL_APPROVED: ("originals_opened", "Originals opened by two people"),
    Action.EVIDENCE_MISSING: ("evidence_missing", "Clips that could not be opened"),
}
LATE: Mapping[str, str] = {
    "miss_rate": "Estimated share of sounds that the ear missed, with its interval",
    "agreement_alpha": "Krippendorff's alpha between first and second looks",
    "queue_agreement_alpha": "Krippendorff's alpha of the looks in a queue with one another and with those before",
    "score_drift": "Jensen-Shannon distance of the last week's scores from those before",
}
"""Gauges that there are none of until enough was judged, and what they tell."""
_QUEUE_WORDS = (("waiting", "Cases that wait"), ("oldest_seconds", "Age of the oldest of them"))


@dataclass(frozen=True, slots=True)
class Figure:
    """One number. `kind` is `gauge` or `counter`; a label is one of the service's own words, never one that somebody typed."""

    name: str
    words: str
    kind: str
    value: float
    label: tuple[str, str] | None = None


def service_figures(conn: Connection, seen: Overview, house: Limits, now: datetime) -> Sequence[Figure]:
    """Every figure, as of `now`."""
    return [*_queues(seen, now), *_now(conn, seen, house, now), *_shares(seen), *_since_the_beginning(conn)]


def _queues(seen: Overview, now: datetime) -> Sequence[Figure]:
    figures = []
    for name, words in _QUEUE_WORDS:
        for depth in seen.depths:
            age_s = (now - depth.oldest).total_seconds() if depth.oldest else 0.0
            figures.append(Figure(name, words, "gauge", depth.count if name == "waiting" else age_s, ("queue", str(depth.queue))))
    return figures


def _now(conn: Connection, seen: Overview, house: Limits, now: datetime) -> Sequence[Figure]:
    live = (leases.c.ended_at.is_(None), leases.c.expires_at > now)
    holds = conn.execute(select(func.count()).where(*live)).scalar_one()
    asked = select(func.count()).select_from(original_requests.join(leases, leases.c.lease_id == original_requests.c.lease_id))
    waiting = conn.execute(asked.where(original_requests.c.answered_at.is_(None), *live)).scalar_one()
    recent = select(exposures.c.user_id).where(exposures.c.ended_at > now - timedelta(days=2)).distinct()
    resting = sum(exposure_of(conn, user_id, house, now).rest_until is not None for user_id in conn.execute(recent).scalars().all())
    canaries = [health.canary for health in seen.devices]
    return [
        Figure("holds", "Cases held by reviewers", "gauge", holds),
        Figure("originals_waiting", "Requests for an original that wait for a second person", "gauge", waiting),
        Figure("exposure_stops", "Accounts that an exposure limit holds back now", "gauge", resting),
        Figure("devices", "Devices that may send", "gauge", len(canaries)),
        Figure("canaries_missed", "Devices whose last canary was missed", "gauge", canaries.count("missed")),
    ]


def _since_the_beginning(conn: Connection) -> Sequence[Figure]:
    query = select(audit_log.c.action, func.count()).where(audit_log.c.action.in_([str(action) for action in _COUNTED]))
    counts = {row[0]: row[1] for row in conn.execute(query.group_by(audit_log.c.action))}
    told = [Figure(name, words, "counter", counts.get(str(action), 0)) for action, (name, words) in _COUNTED.items()]
    words = "Reports of devices by how their last canary fared"
    return [*told, *(Figure("canary_reports", words, "counter", count, ("canary", name)) for name, count in reports(conn).items())]


def _shares(seen: Overview) -> Sequence[Figure]:
    """What supervisors see beyond counts; what nothing is known of yet is left out."""
    figures = [
        Figure("expired_share", "Share of the cases closed lately that nobody decided in time", "gauge", seen.expired.value),
        Figure("golden_hits_share", "Share of golden cases answered as expected", "gauge", seen.golden.value),
        Figure("devices_silent", "Devices that said nothing for an hour", "gauge", sum(one.is_silent for one in seen.devices)),
        Figure("possibly_lost_events", "Numbers of events that never came", "gauge", sum(one.lost for one in seen.devices)),
    ]
    misses = seen.misses
    if misses.rate is not None and misses.rate_interval is not None:
        bounds = (("estimate", misses.rate), *zip(("low", "high"), misses.rate_interval, strict=True))
        figures += [_late("miss_rate", value, ("bound", bound)) for bound, value in bounds]
    figures += [_late("agreement_alpha", one.alpha, ("sound", sound)) for sound, one in seen.by_sound.items() if one.alpha is not None]
    queues = [(str(one.queue), one.whole) for one in seen.agreement]
    figures += [_late("queue_agreement_alpha", one.alpha, ("queue", queue)) for queue, one in queues if one.alpha is not None]
    words = "Cases that alpha compares the labels of"
    figures += [Figure("queue_agreement_cases", words, "gauge", one.count, ("queue", queue)) for queue, one in queues]
    latest = {one.model: one.distance for one in seen.drift if one.distance is not None}
    return [*figures, *(_late("score_drift", far, ("model", model[:12])) for model, far in latest.items())]


def _late(name: str, value: float, label: tuple[str, str]) -> Figure:
    return Figure(name, LATE[name], "gauge", value, label)


def exposition(conn: Connection, house: Limits, now: datetime) -> str:
    """Everything that Prometheus gets."""
    seen = overview(conn, now)
    return prometheus_text(service_figures(conn, seen, house, now))


def prometheus_text(figures: Sequence[Figure]) -> str:
    """The figures in Prometheus' text format 0.0.4; counters end in `_total`."""
    lines, told = [], set()
    for one in figures:
        name = f"earmark_review_{one.name}{'_total' if one.kind == 'counter' else ''}"
        if name not in told:
            lines += [f"# HELP {name} {one.words}", f"# TYPE {name} {one.kind}"]
            told.add(name)
        label = f'{{{one.label[0]}="{one.label[1]}"}}' if one.label else ""
        lines.append(f"{name}{label} {one.value:.10g}")
    return "\n".join(lines) + "\n"
