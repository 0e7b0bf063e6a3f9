"""The lists: what waits, what is decided, and the log."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import RedirectResponse

from earmark_review import audit
from earmark_review.accounts import Permission
from earmark_review.store import caseload, leases
from earmark_review.web.case_pages import show_claimed
from earmark_review.web.guards import Reader, Reviewer, ServiceOf, SessionForm, Who
from earmark_review.web.rendering import render

router = APIRouter(include_in_schema=False)
LINES_PER_PAGE = 100
_CASE_ID = "^[0-9a-f]{32}$"
PageNumber = Annotated[int, Query(ge=1, le=100_000)]
CaseId = Annotated[str | None, Query(pattern=_CASE_ID)]


@router.get("/")
def home() -> Response:
    """The queue is the front door."""
    return RedirectResponse("/queue", HTTPStatus.SEE_OTHER)


@router.get("/queue")
def queue_page(
    request: Request,
    service: ServiceOf,
    who: Reader,
    page: PageNumber = 1,
    decided: CaseId = None,
    skipped: CaseId = None,
) -> Response:
    """Open cases, by severity, then age."""
    now = service.now()
    with service.database.reading() as conn:
        lines = caseload.queue(conn, now, LINES_PER_PAGE, (page - 1) * LINES_PER_PAGE)
        held = leases.held_case(conn, who.user_id, now)
    return render(request, "queue.html", lines=lines, page=page, per_page=LINES_PER_PAGE, held=held, decided=decided, skipped=skipped)


@router.post("/queue/next")
def claim_next(request: Request, service: ServiceOf, who: Reviewer, _form: SessionForm) -> Response:
    """Claim whatever comes first; who holds a case already goes on with that one."""
    settings, now = service.settings, service.now()
    with service.database.writing() as conn:
        held = leases.held_case(conn, who.user_id, now)
        first = None if held else leases.next_case(conn, who, now)
        claimed = leases.claim(conn, first, who, settings.lease_terms, settings.leases_per_reviewer, now) if first else None
    if claimed is not None:
        return show_claimed(request, claimed)
    return RedirectResponse(f"/cases/{held}" if held else "/queue", HTTPStatus.SEE_OTHER)


@router.get("/decided")
def decided_page(request: Request, service: ServiceOf, _who: Reader, page: PageNumber = 1) -> Response:
    """Closed cases, the latest first."""
    with service.database.reading() as conn:
        lines = caseload.closed(conn, service.now(), LINES_PER_PAGE, (page - 1) * LINES_PER_PAGE)
    return render(request, "decided.html", lines=lines, page=page, per_page=LINES_PER_PAGE)


@router.get("/log")
def log_page(request: Request, service: ServiceOf, who: Who, after: Annotated[int, Query(ge=0, le=2**53)] = 0) -> Response:
    """The audit log, the latest first. Reading it is itself an entry."""
    who.require(Permission.READ_LOG)
    with service.database.writing() as conn:
        audit.append(conn, service.now(), who.actor, audit.Action.LOG_READ, "log")
        entries = audit.read(conn, after=after, limit=LINES_PER_PAGE, newest_first=True)
    return render(request, "log.html", entries=entries)
