"""The lists: what waits, what is decided, and the log."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import Connection
from starlette.responses import RedirectResponse

from earmark_review import audit
from earmark_review.accounts import Permission, SignedIn
from earmark_review.service import Service
from earmark_review.store import caseload, leases, originals
from earmark_review.store.exposures import exposure_of, require_rested
from earmark_review.store.golden import golden_before
from earmark_review.web.case_pages import show_claimed
from earmark_review.web.guards import ServiceOf, SessionForm, Who
from earmark_review.web.rendering import render

router = APIRouter(include_in_schema=False)
LINES_PER_PAGE = 100
_SOON = 1 / 3
"""Of the time for deciding; whatever has less of it left says so in the queue."""
_CASE_ID = "^[0-9a-f]{32}$"
PageNumber = Annotated[int, Query(ge=1, le=100_000)]
LAST_ENTRY = 2**31 - 1
"""What PostgreSQL can compare an entry's number with."""
EntryNumber = Annotated[int, Query(ge=0, le=LAST_ENTRY)]
CaseId = Annotated[str | None, Query(pattern=_CASE_ID)]


@router.get("/")
def home() -> Response:
    """The queue is the front door."""
    return RedirectResponse("/queue", HTTPStatus.SEE_OTHER)


@router.get("/queue")
def queue_page(
    request: Request,
    service: ServiceOf,
    who: Who,
    page: PageNumber = 1,
    decided: CaseId = None,
    skipped: CaseId = None,
) -> Response:
    """Open cases, by severity, then age."""
    now = service.now()
    with service.database.reading() as conn:
        lines = caseload.queue(conn, who, now, LINES_PER_PAGE, (page - 1) * LINES_PER_PAGE)
        held = leases.held_case(conn, who.user_id, now)
        had = exposure_of(conn, who.user_id, service.settings.limits, now) if who.queues else None
        asked = len(originals.waiting(conn, now)) if who.may(Permission.APPROVE_ORIGINAL) else 0
    undecided_s = service.settings.undecided_s
    left_s = {line.case_id: (line.opened_at - now).total_seconds() + undecided_s for line in lines.lines}
    shown: dict[str, Any] = {"held": held, "decided": decided, "skipped": skipped, "had": had, "asked": asked}
    shown |= {"left_s": left_s, "soon_s": undecided_s * _SOON}
    return render(request, "queue.html", lines=lines, page=page, per_page=LINES_PER_PAGE, **shown)


@router.post("/queue/next")
def claim_next(request: Request, service: ServiceOf, who: Who, _form: SessionForm) -> Response:
    """Claim whatever comes first; who holds a case already goes on with that one."""
    now = service.now()
    with service.database.writing() as conn:
        held = leases.held_case(conn, who.user_id, now)
        claimed = None if held else _claim_next(conn, service, who, now)
    if claimed is not None:
        return show_claimed(request, claimed)
    return RedirectResponse(f"/cases/{held}" if held else "/queue", HTTPStatus.SEE_OTHER)


def _claim_next(conn: Connection, service: Service, who: SignedIn, now: datetime) -> leases.Claim | None:
    """The first case of the queue, now and then a golden one in its stead."""
    settings = service.settings
    terms = settings.lease_terms.within(require_rested(conn, who.user_id, settings.limits, now))
    first = leases.next_case(conn, who, now)
    if first and service.chance() < settings.golden_share:
        first = golden_before(conn, first, who, now) or first
    return leases.claim(conn, first, who, terms, settings.leases_per_reviewer, now) if first else None


@router.get("/decided")
def decided_page(request: Request, service: ServiceOf, _who: Who, page: PageNumber = 1) -> Response:
    """Closed cases, the latest first."""
    with service.database.reading() as conn:
        lines = caseload.closed(conn, service.now(), LINES_PER_PAGE, (page - 1) * LINES_PER_PAGE)
    return render(request, "decided.html", lines=lines, page=page, per_page=LINES_PER_PAGE)


@router.get("/log")
def log_page(request: Request, service: ServiceOf, who: Who, after: EntryNumber = 0, before: EntryNumber = LAST_ENTRY) -> Response:
    """The audit log, the latest first, or what came before an entry. Reading it is itself an entry."""
    with service.database.writing() as conn:
        audit.append(conn, service.now(), who.actor, audit.Action.LOG_READ, "log")
    with service.database.reading() as conn:
        entries = audit.read(conn, after=after, before=before, limit=LINES_PER_PAGE, newest_first=True)
    return render(request, "log.html", entries=entries, is_latest="before" not in request.query_params)
