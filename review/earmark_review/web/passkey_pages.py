"""Passkeys over HTTP: registering one from the account's page, and signing in with one. A script of ours speaks to these."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from starlette.responses import JSONResponse, RedirectResponse

from earmark_review import audit
from earmark_review.errors import FormError, NotOfferedError, SettingsError, SignInError
from earmark_review.names import checked_name
from earmark_review.passkeys import Ceremonies, Offer, credential_id_of
from earmark_review.service import Service
from earmark_review.store.flows import FlowKind, begin_flow, take_flow
from earmark_review.store.passkeys import add_passkey, note_use, passkey_by, passkeys_of, remove_passkey
from earmark_review.store.sessions import SignInRequest, start_session
from earmark_review.web.account_pages import number
from earmark_review.web.bodies import Form
from earmark_review.web.guards import ServiceOf, SessionForm, Who
from earmark_review.web.rendering import SESSION_COOKIE
from earmark_review.web.sign_in_pages import LOGIN_COOKIE, address_of, local_path, login_form, require_login_form, set_cookie

router = APIRouter(include_in_schema=False)
FLOW_COOKIE = "earmark_passkey"
LoginForm = Annotated[Form, Depends(login_form)]


def ceremonies(service: ServiceOf) -> Ceremonies:
    """The ceremonies of this service.

    Raises:
        NotOfferedError: it has none.
    """
    if not service.settings.passkeys or service.settings.origin is None:
        msg = "this service takes no passkeys; whoever runs it can set EARMARK_REVIEW_PASSKEYS"
        raise NotOfferedError(msg)
    return Ceremonies(service.settings.origin)


CeremoniesOf = Annotated[Ceremonies, Depends(ceremonies)]


@router.post("/account/passkeys/options")
def offer_new(request: Request, service: ServiceOf, who: Who, offered: CeremoniesOf, form: SessionForm) -> Response:
    """What the browser needs to make a passkey; a session alone does not get that far, the account's password is asked for again."""
    service.sign_in.confirm(SignInRequest(who.name, form.get("password", ""), address_of(request)), service.now())
    with service.database.reading() as conn:
        known = passkeys_of(conn, who.user_id)
    return _offer(request, service, FlowKind.PASSKEY_NEW, offered.offer_new(who, known), "/account")


@router.post("/account/passkeys")
def keep_new(request: Request, service: ServiceOf, who: Who, offered: CeremoniesOf, form: SessionForm) -> Response:
    """Keep what the browser made."""
    name = _name(form)
    challenge = _challenge(request, service, FlowKind.PASSKEY_NEW)
    credential_id, public_key, sign_count = offered.accept_new(form.get("credential", ""), challenge)
    with service.database.writing() as conn:
        add_passkey(conn, who, name, credential_id, public_key, sign_count, service.now())
    return _done(JSONResponse({"to": "/account"}), "/account")


@router.post("/account/passkeys/remove")
def remove(service: ServiceOf, who: Who, form: SessionForm) -> Response:
    """Forget one of one's own; that needs no ceremony, so that a lost one is gone at once."""
    with service.database.writing() as conn:
        remove_passkey(conn, who, number(form, "passkey"), service.now())
    return RedirectResponse("/account", 303)


@router.post("/login/passkey/options")
def offer_sign_in(request: Request, service: ServiceOf, offered: CeremoniesOf, form: LoginForm) -> Response:
    """What the browser needs to use a passkey."""
    require_login_form(request, form)
    return _offer(request, service, FlowKind.PASSKEY_USED, offered.offer_sign_in(), "/login")


@router.post("/login/passkey")
def sign_in(request: Request, service: ServiceOf, offered: CeremoniesOf, form: LoginForm) -> Response:
    """Start a session for whoever's passkey answered."""
    require_login_form(request, form)
    now, address, credential = service.now(), address_of(request), form.get("credential", "")
    failure_id = service.sign_in.book_failure(f"passkey from {address}", address, now)
    challenge = _challenge(request, service, FlowKind.PASSKEY_USED)
    with service.database.reading() as conn:
        known = passkey_by(conn, credential_id_of(credential))
    try:
        if known is None:
            msg = "no account here has this passkey; sign in with the password and register it"
            raise SignInError(msg)  # noqa: TRY301 - both refusals are entered in the log
        sign_count = offered.accept_sign_in(credential, challenge, known)
    except SignInError:
        with service.database.writing() as conn:
            subject = f"user:{known.user_name}" if known else "user:?"
            audit.append(conn, now, audit.SERVICE, audit.Action.SIGN_IN_REFUSED, subject, {"address": address, "by": "passkey"})
        raise
    service.sign_in.strike_out(failure_id)
    with service.database.writing() as conn:
        note_use(conn, known, sign_count, now)
        token = start_session(conn, known.user_id, known.user_name, now, by="passkey")
    answer = JSONResponse({"to": local_path(form.get("next", ""))})
    set_cookie(request, answer, SESSION_COOKIE, token, path="/")
    answer.delete_cookie(LOGIN_COOKIE, path="/login")
    return _done(answer, "/login")


def _name(form: Form) -> str:
    try:
        return checked_name("passkey", form.get("name", ""))
    except SettingsError as error:
        raise FormError(str(error)) from error


def _offer(request: Request, service: Service, kind: FlowKind, offer: Offer, path: str) -> Response:
    with service.database.writing() as conn:
        token = begin_flow(conn, kind, offer.challenge, service.now())
    answer = Response(offer.options, media_type="application/json")
    set_cookie(request, answer, FLOW_COOKIE, token, path=path)
    return answer


def _challenge(request: Request, service: Service, kind: FlowKind) -> str:
    """What was asked; forgotten with this, whatever the answer is worth."""
    with service.database.writing() as conn:
        return take_flow(conn, kind, request.cookies.get(FLOW_COOKIE, ""), service.now())


def _done(answer: Response, path: str) -> Response:
    answer.delete_cookie(FLOW_COOKIE, path=path)
    return answer
