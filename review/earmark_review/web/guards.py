"""Who is asking: the session behind a page, the device behind an upload, and the form that a session was given."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from earmark_review.accounts import Permission, SignedIn
from earmark_review.errors import CsrfError, DeviceTokenError
from earmark_review.service import Service
from earmark_review.store.devices import Device, device_of
from earmark_review.store.sessions import signed_in
from earmark_review.tokens import is_csrf_token
from earmark_review.web.bodies import Form, read_form
from earmark_review.web.rendering import SESSION_COOKIE, service_of

BACKGROUND_HEADER = "x-earmark-background"
"""Sent by a page that refreshes itself: nobody need be sitting in front of it."""
ServiceOf = Annotated[Service, Depends(service_of)]


def current_user(request: Request, service: ServiceOf) -> SignedIn:
    """Whoever is signed in.

    Raises:
        NotSignedInError: nobody is.
    """
    token, is_work = request.cookies.get(SESSION_COOKIE), BACKGROUND_HEADER not in request.headers
    who = signed_in(service.database, token, service.settings, service.now(), is_work=is_work)
    request.state.who = who
    return who


Who = Annotated[SignedIn, Depends(current_user)]


def reader(who: Who) -> SignedIn:
    """An account that may see the queue."""
    who.require(Permission.SEE_QUEUE)
    return who


def reviewer(who: Who) -> SignedIn:
    """An account that may claim and decide."""
    who.require(Permission.REVIEW)
    return who


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


def current_device(request: Request, service: ServiceOf) -> Device:
    """The device whose token the request bears.

    Raises:
        DeviceTokenError: no token, or one of no enrolled device.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        msg = "expected `Authorization: Bearer TOKEN` with the token that the device got when it enrolled"
        raise DeviceTokenError(msg)
    with service.database.reading() as conn:
        return device_of(conn, token.strip())


Reader = Annotated[SignedIn, Depends(reader)]
Reviewer = Annotated[SignedIn, Depends(reviewer)]
SessionForm = Annotated[Form, Depends(session_form)]
SendingDevice = Annotated[Device, Depends(current_device)]
