"""Signing in at a provider of identities, and linking an account to an identity there."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.responses import RedirectResponse

from earmark_review import audit
from earmark_review.errors import NotOfferedError, SignInError
from earmark_review.oidc import Identity, Memory, Provider
from earmark_review.service import Service
from earmark_review.store.flows import FlowKind, begin_flow, take_flow
from earmark_review.store.identities import account_at, link, unlink
from earmark_review.store.sessions import SignInRequest, signed_in, start_session
from earmark_review.web.guards import ServiceOf, SessionForm, Who
from earmark_review.web.rendering import SESSION_COOKIE, render
from earmark_review.web.sign_in_pages import address_of, local_path, set_cookie

router = APIRouter(include_in_schema=False)
FLOW_COOKIE = "earmark_provider"


def provider(service: ServiceOf) -> Provider:
    """The provider of this service.

    Raises:
        NotOfferedError: it has none.
    """
    if service.settings.oidc_issuer is None:
        msg = "this service has no single sign-on; whoever runs it can set EARMARK_REVIEW_OIDC_ISSUER"
        raise NotOfferedError(msg)
    return Provider(service.settings)


ProviderOf = Annotated[Provider, Depends(provider)]


@router.get("/login/provider")
def leave(request: Request, service: ServiceOf, at: ProviderOf, to: Annotated[str, Query(alias="next")] = "") -> Response:
    """Send the browser to the provider. A link and no form leads here: the page's policy lets no form lead to another site."""
    url, memory = at.leave(local_path(to))
    answer = RedirectResponse(url, HTTPStatus.SEE_OTHER)
    _remember(request, answer, service, FlowKind.PROVIDER, memory)
    return answer


@router.post("/account/identity")
def begin_link(request: Request, service: ServiceOf, who: Who, at: ProviderOf, form: SessionForm) -> Response:
    """Offer the way to the provider to whoever typed the account's password again."""
    service.sign_in.confirm(SignInRequest(who.name, form.get("password", ""), address_of(request)), service.now())
    url, memory = at.leave("/account", who.user_id)
    answer = render(request, "linking.html", url=url, provider=service.settings.oidc_name)
    _remember(request, answer, service, FlowKind.PROVIDER_LINK, memory)
    return answer


@router.post("/account/identity/remove")
def remove_link(service: ServiceOf, who: Who, form: SessionForm) -> Response:
    """Forget one's identity at a provider."""
    with service.database.writing() as conn:
        unlink(conn, who.user_id, form.get("issuer", ""), service.now())
    return RedirectResponse("/account", HTTPStatus.SEE_OTHER)


@router.get("/login/provider/back")
def come_back(request: Request, service: ServiceOf, at: ProviderOf) -> Response:
    """Take the browser back from the provider: into a session, or with a link more."""
    now, address = service.now(), address_of(request)
    failure_id = service.sign_in.book_failure(f"provider from {address}", address, now)
    try:
        kind, memory = _recall(request, service)
        identity = at.come_back(request.query_params, memory)
        answer = (_link if kind is FlowKind.PROVIDER_LINK else _enter)(request, service, identity, memory)
    except SignInError:
        with service.database.writing() as conn:
            detail = {"address": address, "by": "provider"}
            audit.append(conn, now, audit.SERVICE, audit.Action.SIGN_IN_REFUSED, "user:?", detail)
        raise
    service.sign_in.strike_out(failure_id)
    answer.delete_cookie(FLOW_COOKIE, path="/login")
    return answer


def _enter(request: Request, service: Service, identity: Identity, memory: Memory) -> Response:
    with service.database.writing() as conn:
        user_id, name = account_at(conn, identity.issuer, identity.subject)
        token = start_session(conn, user_id, name, service.now(), by="provider")
    answer = RedirectResponse(local_path(memory.to), HTTPStatus.SEE_OTHER)
    set_cookie(request, answer, SESSION_COOKIE, token, path="/")
    return answer


def _link(request: Request, service: Service, identity: Identity, memory: Memory) -> Response:
    who = signed_in(service.database, request.cookies.get(SESSION_COOKIE), service.settings, service.now())
    if who.user_id != memory.user_id:
        msg = "another account is signed in here than the one that was to be linked; begin again"
        raise SignInError(msg)
    with service.database.writing() as conn:
        link(conn, who.user_id, identity.issuer, identity.subject, service.now())
    return RedirectResponse("/account", HTTPStatus.SEE_OTHER)


def _remember(request: Request, answer: Response, service: Service, kind: FlowKind, memory: Memory) -> None:
    with service.database.writing() as conn:
        token = begin_flow(conn, kind, memory.to_text(), service.now())
    set_cookie(request, answer, FLOW_COOKIE, f"{kind.name}.{token}", path="/login")


def _recall(request: Request, service: Service) -> tuple[FlowKind, Memory]:
    """What was remembered; forgotten with this."""
    name, _, token = request.cookies.get(FLOW_COOKIE, "").partition(".")
    kind = FlowKind.PROVIDER_LINK if name == FlowKind.PROVIDER_LINK.name else FlowKind.PROVIDER
    with service.database.writing() as conn:
        return kind, Memory.from_text(take_flow(conn, kind, token, service.now()))
