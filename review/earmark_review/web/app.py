"""Puts the application together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles

from earmark_review.service import Service, open_service
from earmark_review.settings import ReviewSettings
from earmark_review.web import case_pages, device_api, enrolment_api, problems, queue_pages, sign_in_pages
from earmark_review.web.middleware import AccessLog, SecurityHeaders


def create_app(settings_or_service: ReviewSettings | Service) -> FastAPI:
    """The review server as an ASGI application.

    Given settings it opens their data folder and closes it at shutdown; an opened service stays its owner's to close.

    Raises:
        DatabaseError: the data folder or its database cannot be used.
    """
    is_ours = isinstance(settings_or_service, ReviewSettings)
    service = open_service(settings_or_service) if isinstance(settings_or_service, ReviewSettings) else settings_or_service

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        if is_ours:
            service.close()

    app = FastAPI(
        title="Earmark review",
        version=version("earmark"),
        lifespan=lifespan,
        docs_url=None,  # its page loads scripts from elsewhere
        redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        redirect_slashes=False,
    )
    app.state.service = service
    problems.install(app)
    for router in (device_api.router, enrolment_api.router, sign_in_pages.router, queue_pages.router, case_pages.router):
        app.include_router(router)
    app.add_api_route("/healthz", _health, include_in_schema=False)
    app.mount("/static", StaticFiles(packages=[("earmark_review", "static")]), name="static")
    app.add_middleware(SecurityHeaders)
    app.add_middleware(AccessLog)
    return app


def _health() -> Response:
    return JSONResponse({"status": "ok"})
