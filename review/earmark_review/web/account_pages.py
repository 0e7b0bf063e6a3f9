"""One's own account: where it is signed in, and how to end that."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from starlette.responses import RedirectResponse

from earmark_review.errors import FormError
from earmark_review.store.identities import identities_of
from earmark_review.store.passkeys import passkeys_of
from earmark_review.store.revocation import end_own, sessions_of
from earmark_review.web.bodies import Form
from earmark_review.web.guards import ServiceOf, SessionForm, Who
from earmark_review.web.rendering import render

router = APIRouter(prefix="/account", include_in_schema=False)
_OTHERS = "others"
_MOST_DIGITS = 15


@router.get("")
def account_page(request: Request, service: ServiceOf, who: Who) -> Response:
    """The account's live sessions and its passkeys."""
    with service.database.reading() as conn:
        found = sessions_of(conn, who.user_id, service.settings, service.now())
        known = passkeys_of(conn, who.user_id)
        linked = identities_of(conn, who.user_id)
    return render(request, "account.html", sessions=found, passkeys=known, linked=linked, settings=service.settings)


@router.post("/sessions")
def end_sessions(service: ServiceOf, who: Who, form: SessionForm) -> Response:
    """End one's sessions elsewhere, or one of them; they are over with this answer."""
    given = form.get("session", "")
    with service.database.writing() as conn:
        end_own(conn, who, None if given == _OTHERS else number(form, "session"), service.now())
    return RedirectResponse("/account", HTTPStatus.SEE_OTHER)


def number(form: Form, name: str) -> int:
    """A row's number from a hidden field.

    Raises:
        FormError: it is none.
    """
    text = form.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS):
        msg = f"expected a number as the {name}, got {text[:20]!r}"
        raise FormError(msg)
    return int(text)
