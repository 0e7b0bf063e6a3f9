"""The supervisors' page."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from earmark_review.store.overview import WEEKS, overview
from earmark_review.web.guards import ServiceOf, Who
from earmark_review.web.rendering import render

router = APIRouter(include_in_schema=False)


@router.get("/figures")
def figures_page(request: Request, service: ServiceOf, _who: Who) -> Response:
    """How the queue, the models, the reviewers together and the devices fare. No reviewer is told apart."""
    with service.database.reading() as conn:
        seen = overview(conn, service.now())
    return render(request, "overview.html", seen=seen, weeks=WEEKS)
