"""Where a second person agrees that an original may be heard, or does not."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from starlette.responses import RedirectResponse

from earmark_review.errors import FormError
from earmark_review.store import originals
from earmark_review.web.guards import ServiceOf, SessionForm, Who
from earmark_review.web.rendering import render

router = APIRouter(prefix="/originals", include_in_schema=False)
_ANSWERS = {"yes": True, "no": False}


@router.get("")
def originals_page(request: Request, service: ServiceOf, _who: Who) -> Response:
    """The requests that wait for an answer."""
    with service.database.reading() as conn:
        found = originals.waiting(conn, service.now())
    return render(request, "originals.html", requests=found, open_s=service.settings.original_s)


@router.post("/{request_id}")
def answer_request(service: ServiceOf, who: Who, form: SessionForm, request_id: Annotated[int, Path(ge=0, le=2**53)]) -> Response:
    """Agree or refuse."""
    agrees = _ANSWERS.get(form.get("answer", ""))
    if agrees is None:
        msg = f"expected the answer yes or no, got {form.get('answer', '')[:20]!r}"
        raise FormError(msg)
    with service.database.writing() as conn:
        originals.answer(conn, request_id, who, service.now(), service.settings.original_s if agrees else None)
    return RedirectResponse("/originals", HTTPStatus.SEE_OTHER)
