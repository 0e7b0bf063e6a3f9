"""Fills the templates, with what every screen shows: who is signed in, and whether decisions run unverified."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import HTMLResponse

from earmark_model.contract import Reason
from earmark_review.accounts import Permission, SignedIn
from earmark_review.cases import CaseState, Queue, Severity, Verdict
from earmark_review.service import Service
from earmark_review.tokens import csrf_token
from earmark_review.web.caution import Caution

SESSION_COOKIE = "earmark_session"

LABEL_WORDS = {
    "scream": "Scream",
    "cry": "Cry",
    "baby_cry": "Baby cry",
    "shout": "Shout",
    "laughter": "Laughter",
    "speech": "Speech",
    "other": "Other sound",
}
REASON_WORDS = {
    Reason.ABOVE_THRESHOLD: "above its threshold",
    Reason.HELD_BY_HYSTERESIS: "held by hysteresis",
    Reason.BELOW_THRESHOLD: "below its threshold",
    Reason.SPEECH_ONLY: "speech only",
    Reason.ROUTED_UNVERIFIED: "above an unverified threshold",
}
STATE_WORDS = {
    CaseState.AWAITING_CLIP: "Waiting for its clip",
    CaseState.READY: "Ready",
    CaseState.LEASED: "Held",
    CaseState.DECIDED: "Decided",
    CaseState.SECOND_REVIEW: "Ready",
    CaseState.ADJUDICATION: "In dispute",
    CaseState.ESCALATED: "Escalated",
    CaseState.FINAL: "Final",
    CaseState.EXPIRED: "Expired",
    CaseState.WITHDRAWN: "Withdrawn",
    CaseState.SHREDDED: "Closed",
}
QUEUE_WORDS = {Queue.FIRST: "First look", Queue.SECOND: "Second look", Queue.ADJUDICATION: "Disputes"}
SEVERITY_WORDS = {Severity.HIGHEST: "Highest", Severity.HIGH: "High", Severity.RAISED: "Raised", Severity.OTHER: "Other"}
VERDICT_WORDS = {
    Verdict.DISTRESS: "Confirmed distress",
    Verdict.PLAY: "Tantrum or play",
    Verdict.MEDIA: "Television or media",
    Verdict.OTHER_SOUND: "Other sound",
    Verdict.CANNOT_TELL: "Cannot tell",
    Verdict.ESCALATE: "Escalated",
}
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400


VERDICT_MEANINGS = {
    Verdict.DISTRESS: "Someone is hurt, afraid or in need",
    Verdict.PLAY: "A person, and nothing is wrong",
    Verdict.MEDIA: "It came from a loudspeaker",
    Verdict.OTHER_SOUND: "An animal, a thing, the room",
    Verdict.CANNOT_TELL: "The sound alone does not say",
    Verdict.ESCALATE: "Someone else should judge it",
}


def service_of(request: Request) -> Service:
    """The service that the application was made with."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


def age_words(then: datetime, now: datetime) -> str:
    """How long ago, to one unit."""
    seconds = int((now - then).total_seconds())
    return rough_words(seconds) if seconds >= _MINUTE_S else "under 1 min"


def rough_words(seconds: float) -> str:
    """A length to one unit, rounded down: days from two on, then hours, minutes, seconds."""
    for unit_s, unit, least in ((_DAY_S, "d", 2), (_HOUR_S, "h", 1), (_MINUTE_S, "min", 1)):
        if seconds >= least * unit_s:
            return f"{int(seconds // unit_s)} {unit}"
    return f"{int(seconds)} s"


def length_words(seconds: float) -> str:
    """A length for reading: tenths below a minute, minutes above."""
    if round(seconds, 1) < _MINUTE_S:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole // _MINUTE_S} min {whole % _MINUTE_S} s"


def utc_words(at: datetime | str, shift_s: float = 0.0) -> str:
    """A point in time, to the second, moved by `shift_s`."""
    moment = (datetime.fromisoformat(at) if isinstance(at, str) else at) + timedelta(seconds=shift_s)
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def moment(at: datetime) -> Markup:
    """A time of day in UTC, beside which the page writes the reader's own."""
    return Markup('<time datetime="{}" data-moment>{:%H:%M} UTC</time>').format(at.isoformat(), at.astimezone(UTC))


def _environment() -> Environment:
    loader = PackageLoader("earmark_review", "templates")
    made = Environment(
        loader=loader, autoescape=select_autoescape(default=True), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.filters.update(age=age_words, duration=length_words, rough=rough_words, utc=utc_words, moment=moment)
    made.globals.update(
        label_words=LABEL_WORDS,
        reason_words=REASON_WORDS,
        state_words=STATE_WORDS,
        queue_words=QUEUE_WORDS,
        severity_words=SEVERITY_WORDS,
        verdict_words=VERDICT_WORDS,
        verdict_meanings=VERDICT_MEANINGS,
        choice_words={Verdict.ESCALATE: "Escalate"},
        Permission=Permission,
    )
    return made


_TEMPLATES = _environment()


def render(
    request: Request,
    template: str,
    *,
    status: HTTPStatus = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
    **context: Any,
) -> HTMLResponse:
    """A page."""
    service = service_of(request)
    who: SignedIn | None = getattr(request.state, "who", None)
    session = request.cookies.get(SESSION_COOKIE, "")
    shared = {"who": who, "now": service.now(), "path": request.url.path, "unverified": _unverified(request, service)}
    text = _TEMPLATES.get_template(template).render({**shared, "csrf": csrf_token(session) if who else "", **context})
    return HTMLResponse(text, status, headers=dict(headers or {}))


def _unverified(request: Request, service: Service) -> bool:
    caution: Caution = request.app.state.caution
    try:
        with service.database.reading() as conn:
            return caution.is_due(conn, service.now())
    except SQLAlchemyError:
        return True  # a page about a failing database still says the careful thing
