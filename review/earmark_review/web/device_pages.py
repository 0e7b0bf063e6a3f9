"""Supervisors' pages on devices: all of them, and one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from earmark_review.charts import bars, share_by_day
from earmark_review.store.canaries import DAYS, canaries_missed, days_until, devices_missed, reports_missed
from earmark_review.store.fleet import days, fleet, standing
from earmark_review.web.guards import ServiceOf, Who
from earmark_review.web.rendering import render

router = APIRouter(prefix="/devices", include_in_schema=False)


@router.get("")
def devices_page(request: Request, service: ServiceOf, _who: Who) -> Response:
    """Every device, those in trouble first."""
    now = service.now()
    with service.database.reading() as conn:
        found, missed = fleet(conn, now), devices_missed(conn, now)
    return render(request, "devices.html", devices=found, canaries=share_by_day(missed, days_until(now)), days=DAYS)


@router.get("/{device_id}")
def device_page(request: Request, service: ServiceOf, _who: Who, device_id: Annotated[int, Path(ge=0, le=2**53)]) -> Response:
    """One device: what it says of itself, possible losses, and its last weeks."""
    now = service.now()
    with service.database.reading() as conn:
        one = standing(conn, device_id, now)
        past = days(conn, one.device, now)
        missed = canaries_missed(conn, one.device, one.device.created_at)
        canaries = share_by_day(reports_missed(conn, one.device, now), days_until(now))
    most = max(day.events for day in past)
    drawn = bars([day.events for day in past], most)
    return render(request, "device.html", one=one, past=past, bars=drawn, most=most, missed=missed, canaries=canaries, days=DAYS)
