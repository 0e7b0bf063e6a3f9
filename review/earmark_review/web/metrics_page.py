"""What Prometheus fetches, from this machine alone or with a token of its own."""

from __future__ import annotations

import hmac
from ipaddress import ip_address

from fastapi import APIRouter, Request, Response

from earmark_review.errors import MonitorError
from earmark_review.service import Service
from earmark_review.store.service_figures import exposition
from earmark_review.web.guards import ServiceOf

router = APIRouter(include_in_schema=False)
_KIND = "text/plain; version=0.0.4; charset=utf-8"
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


@router.get("/metrics")
def metrics(request: Request, service: ServiceOf) -> Response:
    """The figures; no household, device or person is named."""
    _require_monitor(request, service)
    now = service.now()
    with service.database.reading() as conn:
        words = exposition(conn, service.settings.limits, now)
    return Response(words, media_type=_KIND)


def _require_monitor(request: Request, service: Service) -> None:
    """Insist on the token, or where none is set up on a caller on this very machine with no proxy in between.

    Raises:
        MonitorError: neither.
    """
    expected = service.settings.metrics_token
    if expected is not None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), expected.get_secret_value().encode()):
            return
    elif _is_loopback(request) and not any(name in request.headers for name in _FORWARDED):
        return
    msg = "the figures are for this machine alone, or for `Authorization: Bearer` with EARMARK_REVIEW_METRICS_TOKEN"
    raise MonitorError(msg)


def _is_loopback(request: Request) -> bool:
    try:
        return request.client is not None and ip_address(request.client.host).is_loopback
    except ValueError:
        return False
