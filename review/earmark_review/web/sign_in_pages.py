"""The pages for signing in and out."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.responses import RedirectResponse

from earmark_review.errors import CsrfError, SignInError, TooManyAttemptsError
from earmark_review.store.sessions import SignInRequest, sign_out
from earmark_review.tokens import csrf_token, is_csrf_token, new_token
from earmark_review.web.bodies import Form, read_form
from earmark_review.web.guards import ServiceOf, SessionForm, Who
from earmark_review.web.rendering import SESSION_COOKIE, render, service_of

router = APIRouter(include_in_schema=False)
LOGIN_COOKIE = "earmark_login"
_HOME = "/queue"


def local_path(given: str) -> str:
    """`given` if it is a path on this very site, else the queue: a link must not lead a signed-in reviewer elsewhere."""
    is_local = given.startswith("/") and not given.startswith(("//", "/\\")) and given.isprintable() and "\\" not in given
    return given if is_local else _HOME


@router.get("/login")
def login_page(request: Request, to: Annotated[str, Query(alias="next")] = _HOME) -> Response:
    """The form."""
    return _login_form(request, local_path(to))


def _login_form(
    request: Request, to: str, name: str = "", problem: str = "", status: HTTPStatus = HTTPStatus.OK, retry_after_s: int | None = None
) -> Response:
    secret = new_token()
    headers = {"Retry-After": str(retry_after_s)} if retry_after_s else None
    settings = service_of(request).settings
    others = {"passkeys": settings.passkeys, "provider": settings.oidc_name if settings.oidc_issuer else ""}
    context = {"form_csrf": csrf_token(secret), "to": to, "name": name, "problem": problem, **others}
    page = render(request, "login.html", status=status, headers=headers, **context)
    set_cookie(request, page, LOGIN_COOKIE, secret, path="/login")
    return page


async def login_form(request: Request, service: ServiceOf) -> Form:
    """The fields that were typed."""
    return await read_form(request, service.settings.form_bytes_cap)


@router.post("/login")
def log_in(request: Request, service: ServiceOf, form: Annotated[Form, Depends(login_form)]) -> Response:
    """Check, and start a session under a fresh token."""
    to, name = local_path(form.get("next", _HOME)), form.get("name", "")
    secret = request.cookies.get(LOGIN_COOKIE)
    if not secret or not is_csrf_token(form.get("csrf", ""), secret):
        return _login_form(request, to, name, "This form was out of date. Please try again.", HTTPStatus.FORBIDDEN)
    address = address_of(request)
    try:
        token = service.sign_in.start(SignInRequest(name, form.get("password", ""), address), service.now())
    except SignInError:
        return _login_form(request, to, name, "The name and the password do not belong together.", HTTPStatus.UNAUTHORIZED)
    except TooManyAttemptsError as error:
        problem = f"{str(error)[:1].upper()}{str(error)[1:]}."
        return _login_form(request, to, name, problem, HTTPStatus.TOO_MANY_REQUESTS, error.retry_after_s)
    answer = RedirectResponse(to, HTTPStatus.SEE_OTHER)
    set_cookie(request, answer, SESSION_COOKIE, token, path="/")
    answer.delete_cookie(LOGIN_COOKIE, path="/login")
    return answer


@router.post("/logout")
def log_out(service: ServiceOf, who: Who, _form: SessionForm) -> Response:
    """End the session on the server, and forget its cookie."""
    with service.database.writing() as conn:
        sign_out(conn, who, service.now())
    answer = RedirectResponse("/login", HTTPStatus.SEE_OTHER)
    answer.delete_cookie(SESSION_COOKIE, path="/")
    return answer


def address_of(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else "unknown"


def require_login_form(request: Request, form: Form) -> None:
    """Insist that the sign-in page gave this form to this very browser.

    Raises:
        CsrfError: it did not.
    """
    secret = request.cookies.get(LOGIN_COOKIE)
    if not secret or not is_csrf_token(form.get("csrf", ""), secret):
        msg = "this form was out of date; reload the page and try again"
        raise CsrfError(msg)


def set_cookie(request: Request, response: Response, name: str, value: str, path: str) -> None:
    """A cookie for the browser alone: out of reach of scripts and of other sites' requests."""
    secure = request.url.scheme == "https"
    response.set_cookie(name, value, path=path, httponly=True, samesite="lax", secure=secure)
