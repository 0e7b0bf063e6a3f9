"""Who is asking: the session behind a page, the device behind an upload, and the form that a session was given."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import select

from earmark_review.access import RULES, Rule
from earmark_review.accounts import SignedIn
from earmark_review.cases import Queue
from earmark_review.errors import CsrfError, DeviceTokenError
from earmark_review.service import Service
from earmark_review.store.devices import Device, device_of
from earmark_review.store.schema import cases
from earmark_review.store.sessions import signed_in
from earmark_review.tokens import is_csrf_token
from earmark_review.web.bodies import Form, read_form
from earmark_review.web.rendering import SESSION_COOKIE, service_of

BACKGROUND_HEADER = "x-earmark-background"
"""Sent by a page that refreshes itself: nobody need be sitting in front of it."""


async def _service(request: Request) -> Service:
    """Asynchronous, though it waits for nothing: FastAPI sends every other dependency to a thread and back."""
    return service_of(request)


ServiceOf = Annotated[Service, Depends(_service)]


def rule_of(request: Request) -> Rule:
    """What the table says about the endpoint that was called; the application starts with none that it does not list."""
    return RULES[f"{request.method} {request.scope['route'].path}"]


def current_user(request: Request, service: ServiceOf) -> SignedIn:
    """Whoever is signed in, if they may call this endpoint for this case.

    Raises:
        NotSignedInError: nobody is.
        NotAllowedError: the role does not reach this far, or the account does not work on the case's queue.
    """
    token, is_work = request.cookies.get(SESSION_COOKIE), BACKGROUND_HEADER not in request.headers
    who = signed_in(service.database, token, service.settings, service.now(), is_work=is_work)
    request.state.who = who
    rule = rule_of(request)
    if rule.needs is not None:
        who.require(rule.needs)
    if rule.by_queue:
        who.require_queue(_queue_of(service, request.path_params["case_id"]))
    return who


def _queue_of(service: Service, case_id: str) -> Queue:
    with service.database.reading() as conn:
        found = conn.execute(select(cases.c.queue).where(cases.c.case_id == case_id)).scalar()
    return Queue(found) if found else Queue.FIRST  # an unknown case is refused by whoever looks for it


Who = Annotated[SignedIn, Depends(current_user)]


async def session_form(request: Request, service: ServiceOf, _who: Who) -> Form:
    """The fields of a form that this very session was given.

    Raises:
        CsrfError: it was given to another session, or to none.
    """
    form = await read_form(request, service.settings.form_bytes_cap)
    if not is_csrf_token(form.get("csrf", ""), request.cookies[SESSION_COOKIE]):
        msg = "the form belongs to an earlier sign-in, so nothing was done; reload the page and try again"
        raise CsrfError(msg)
    return form


async def bearer_token(request: Request) -> str:
    """The token that the request bears, which may be no device's.

    Raises:
        DeviceTokenError: it bears none.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        msg = "expected `Authorization: Bearer TOKEN` with the token that the device got when it enrolled"
        raise DeviceTokenError(msg)
    return token.strip()


BearerToken = Annotated[str, Depends(bearer_token)]


def current_device(service: ServiceOf, token: BearerToken) -> Device:
    """The device whose token the request bears.

    Raises:
        DeviceTokenError: the token is of no enrolled device.
    """
    with service.database.reading() as conn:
        return device_of(conn, token)


SessionForm = Annotated[Form, Depends(session_form)]
SendingDevice = Annotated[Device, Depends(current_device)]
