"""A reviewer's own page: how much they have looked and listened, and the limits that they set for themselves. Nobody else sees it."""

from __future__ import annotations

import math
from dataclasses import replace
from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from starlette.responses import RedirectResponse

from earmark_review.errors import FormError
from earmark_review.store.exposures import exposure_of, limits_of, set_own_limits
from earmark_review.web.bodies import Form
from earmark_review.web.guards import ServiceOf, SessionForm, Who
from earmark_review.web.rendering import render

router = APIRouter(prefix="/you", include_in_schema=False)
_MINUTE_S = 60


@router.get("")
def own_page(request: Request, service: ServiceOf, who: Who) -> Response:
    """One's own time, and nobody else's: there is no parameter that names a person."""
    house, now = service.settings.limits, service.now()
    with service.database.reading() as conn:
        had = exposure_of(conn, who.user_id, house, now)
        mine = limits_of(conn, who.user_id, house, now)
    return render(request, "you.html", had=had, mine=mine, house=house)


@router.post("")
def set_limits(service: ServiceOf, who: Who, form: SessionForm) -> Response:
    """Lower one's own limits at once, or raise them again, up to the house's, from tomorrow."""
    house = service.settings.limits
    wanted = replace(house, day_s=_seconds(form, "day_min"), run_s=_seconds(form, "run_min"))
    with service.database.writing() as conn:
        set_own_limits(conn, who.user_id, wanted, house, service.now())
    return RedirectResponse("/you", HTTPStatus.SEE_OTHER)


def _seconds(form: Form, name: str) -> float:
    try:
        minutes = float(form.get(name, ""))
    except ValueError:
        minutes = math.nan
    if not math.isfinite(minutes):
        msg = f"expected minutes, got {form.get(name, '')[:20]!r}"
        raise FormError(msg)
    return _MINUTE_S * minutes
