"""What a process manager asks: whether the process lives, and whether it can do its work."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from earmark_review.readiness import Readiness

router = APIRouter(include_in_schema=False)


@router.get("/healthz")
async def alive() -> Response:
    """200 while the process answers: it needs nothing else, since to restart it would mend nothing else."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz")
def ready(request: Request) -> Response:
    """200 where everything that the service needs does its part, 503 with what does not otherwise."""
    readiness: Readiness = request.app.state.readiness
    found = readiness.ask()
    checks = {name: "ok" if does else "failed" for name, does in found.items()}
    if all(found.values()):
        return JSONResponse({"status": "ready", "checks": checks})
    return JSONResponse({"status": "not ready", "checks": checks}, HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "5"})
