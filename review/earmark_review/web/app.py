"""Puts the application together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version
from itertools import count
from typing import Any

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.routing import Route
from starlette.staticfiles import StaticFiles

from earmark_review.access import RULES
from earmark_review.readiness import Readiness
from earmark_review.service import Service, open_service
from earmark_review.settings import ReviewSettings
from earmark_review.telemetry import Tracing, start_telemetry
from earmark_review.web import (
    account_pages,
    bundle_api,
    case_pages,
    device_api,
    device_pages,
    enrolment_api,
    health_pages,
    metrics_page,
    original_pages,
    overview_page,
    own_page,
    passkey_pages,
    problems,
    provider_pages,
    queue_pages,
    sign_in_pages,
)
from earmark_review.web.caution import Caution
from earmark_review.web.description import describe
from earmark_review.web.middleware import AccessLog, SecurityHeaders

UPKEEP_S = 60.0
SWEEP_EVERY = 60
"""Of so many rounds of upkeep, the first also sweeps the store of clips, which takes a look at every one."""
_FASTAPIS_OWN: Any = dict.fromkeys(("tracing", "metrics", "logs", "operation_spans", "auto_configure"), False)
"""The telemetry of FastAPI itself, which a variable of the environment could turn on, is off; ours is `start_telemetry`."""
logger = logging.getLogger(__name__)
_MODULES = (
    device_api,
    enrolment_api,
    bundle_api,
    sign_in_pages,
    queue_pages,
    case_pages,
    original_pages,
    overview_page,
    device_pages,
    own_page,
    account_pages,
    passkey_pages,
    provider_pages,
    metrics_page,
    health_pages,
)


def create_app(settings_or_service: ReviewSettings | Service, *, keeps_house: bool = True) -> FastAPI:
    """The review server as an ASGI application.

    Given settings it opens their data folder and closes it at shutdown; an opened service stays its owner's to close. Unless
    `keeps_house`, whoever started several of them does what has to be done now and then.

    Raises:
        DatabaseError: the data folder or its database cannot be used.
        SettingsError: a collector is named and the extra for it is missing.
    """
    is_ours = isinstance(settings_or_service, ReviewSettings)
    service = open_service(settings_or_service) if isinstance(settings_or_service, ReviewSettings) else settings_or_service

    telemetry = start_telemetry(service)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        stopping = asyncio.Event()
        upkeep = asyncio.create_task(_keep_house(service, stopping)) if keeps_house else None
        yield
        if upkeep is not None:
            stopping.set()
            await upkeep  # a round runs in a thread, which cancelling would leave at work on what is closed next
        if telemetry is not None:
            await run_in_threadpool(telemetry.close)
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
        telemetry=_FASTAPIS_OWN,
    )
    app.state.service, app.state.readiness, app.state.caution = service, Readiness(service), Caution()
    problems.install(app)
    for module in _MODULES:
        app.include_router(module.router)
    app.openapi = describe(app)  # type: ignore[method-assign]  # how FastAPI wants it
    _check_rules(app)
    app.mount("/static", StaticFiles(packages=[("earmark_review", "static")]), name="static")
    app.add_middleware(SecurityHeaders)
    app.add_middleware(AccessLog)
    if telemetry is not None:
        app.add_middleware(Tracing, tracer=telemetry.tracer)
    return app


async def _keep_house(service: Service, stopping: asyncio.Event) -> None:
    for number in count():
        await run_in_threadpool(keep_house_once, service, number)
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), UPKEEP_S)
            return


def keep_house_once(service: Service, number: int) -> None:
    """Do what has to be done now and then, for the `number`th time. A round that fails is told, and the next one goes on."""
    try:
        service.keep_house()
        if number % SWEEP_EVERY == 0:
            service.sweep()
    except Exception:
        logger.exception("the house could not be kept")


def _check_rules(app: FastAPI) -> None:
    """Insist that the table of endpoints and the application are about the same ones."""
    routes = [route for owner in (app, *(module.router for module in _MODULES)) for route in owner.routes if isinstance(route, Route)]
    served = {f"{method} {route.path}" for route in routes for method in (route.methods or ()) if method != "HEAD"}
    assert served == set(RULES), f"access.RULES and the application differ in {sorted(served ^ set(RULES))}"
