"""Turns every failure into an answer: RFC 9457 problem documents for programs, a plain page for people, never a traceback."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import RedirectResponse

from earmark_edge.signature import SIGNATURE_HEADER, header_of
from earmark_review import errors
from earmark_review.web.rendering import render

logger = logging.getLogger(__name__)

STATUSES: Mapping[type[errors.ReviewError], HTTPStatus] = MappingProxyType(
    {
        errors.DeviceTokenError: HTTPStatus.UNAUTHORIZED,
        errors.SignatureRefusedError: HTTPStatus.FORBIDDEN,
        errors.EnrolmentError: HTTPStatus.FORBIDDEN,
        errors.KeyGoneError: HTTPStatus.GONE,
        errors.UnsealError: HTTPStatus.UNPROCESSABLE_ENTITY,
        errors.EventRefusedError: HTTPStatus.UNPROCESSABLE_ENTITY,
        errors.ConsentRequiredError: HTTPStatus.FORBIDDEN,
        errors.EventConflictError: HTTPStatus.CONFLICT,
        errors.EventDeletedError: HTTPStatus.GONE,
        errors.UnknownEventError: HTTPStatus.NOT_FOUND,
        errors.DigestError: HTTPStatus.BAD_REQUEST,
        errors.ObjectConflictError: HTTPStatus.CONFLICT,
        errors.ObjectMismatchError: HTTPStatus.UNPROCESSABLE_ENTITY,
        errors.TooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        errors.MediaTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        errors.BlobMissingError: HTTPStatus.SERVICE_UNAVAILABLE,
        errors.BlobStoreError: HTTPStatus.SERVICE_UNAVAILABLE,
        errors.KeyStoreError: HTTPStatus.SERVICE_UNAVAILABLE,
        errors.SoundError: HTTPStatus.UNPROCESSABLE_ENTITY,
        errors.BundleOfferError: HTTPStatus.SERVICE_UNAVAILABLE,
        errors.UnknownBundleError: HTTPStatus.NOT_FOUND,
        errors.UnknownCaseError: HTTPStatus.NOT_FOUND,
        errors.CaseNotReadyError: HTTPStatus.CONFLICT,
        errors.IllegalMoveError: HTTPStatus.CONFLICT,
        errors.StaleLeaseError: HTTPStatus.CONFLICT,
        errors.LeaseLimitError: HTTPStatus.CONFLICT,
        errors.RestDueError: HTTPStatus.TOO_MANY_REQUESTS,
        errors.OriginalClosedError: HTTPStatus.FORBIDDEN,
        errors.UnknownRequestError: HTTPStatus.NOT_FOUND,
        errors.UnknownDeviceError: HTTPStatus.NOT_FOUND,
        errors.FormError: HTTPStatus.UNPROCESSABLE_ENTITY,
        errors.CsrfError: HTTPStatus.FORBIDDEN,
        errors.NotSignedInError: HTTPStatus.UNAUTHORIZED,
        errors.NotAllowedError: HTTPStatus.FORBIDDEN,
        errors.SignInError: HTTPStatus.UNAUTHORIZED,
        errors.ProviderError: HTTPStatus.BAD_GATEWAY,
        errors.MonitorError: HTTPStatus.UNAUTHORIZED,
        errors.NotOfferedError: HTTPStatus.NOT_FOUND,
        errors.TooManyAttemptsError: HTTPStatus.TOO_MANY_REQUESTS,
        errors.AuditUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    }
)
"""Every refusal that a request can meet; a test holds this complete."""

TITLES: Mapping[type[errors.ReviewError], str] = MappingProxyType(
    {
        errors.ConsentRequiredError: "Consent required",
        errors.StaleLeaseError: "Your claim has ended",
        errors.LeaseLimitError: "One case at a time",
        errors.RestDueError: "Time to rest",
        errors.OriginalClosedError: "The original is closed",
        errors.UnknownRequestError: "No such request",
        errors.UnknownDeviceError: "No such device",
        errors.CaseNotReadyError: "This case cannot be claimed now",
        errors.UnknownCaseError: "No such case",
        errors.CsrfError: "This form is out of date",
        errors.NotAllowedError: "Not for this account",
        errors.NotSignedInError: "You were signed out",
        errors.AuditUnavailableError: "The log is not available",
        errors.BlobMissingError: "The clip is missing",
        errors.BlobStoreError: "The store of clips is away",
        errors.KeyStoreError: "The store of keys is away",
        errors.SignInError: "Sign-in did not work",
        errors.ProviderError: "Single sign-on is away",
        errors.NotOfferedError: "Not offered here",
        errors.TooManyAttemptsError: "Sign-in is paused",
    }
)
_SHORTLY: Mapping[str, str] = MappingProxyType({"Retry-After": "5"})


def install(app: FastAPI) -> None:
    """Answer for every exception that a handler lets through."""
    app.add_exception_handler(errors.ReviewError, _on_refusal)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(OperationalError, _on_busy)
    app.add_exception_handler(PoolTimeoutError, _on_busy)
    app.add_exception_handler(Exception, _on_defect)


def answer(request: Request, status: HTTPStatus, kind: str, title: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """A problem in the form that the client reads. `detail` is a sentence for people, without its capital or full stop."""
    if wants_page(request):
        sentence = f"{detail[:1].upper()}{detail[1:]}."
        context = {
            "title": title,
            "detail": sentence,
            "status_code": int(status),
            "case": _case_path(request, status),
            "gone": _case_gone(request, status),
        }
        return render(request, "problem.html", status=status, headers=headers, **context)
    document = {"type": f"urn:earmark:problem:{kind}", "title": title, "status": int(status), "detail": detail}
    body = json.dumps({**document, "instance": request.url.path}, ensure_ascii=False).encode(errors="replace")
    return Response(body, status, headers=dict(headers or {}), media_type="application/problem+json")


def _case_path(request: Request, status: HTTPStatus) -> str | None:
    """The page of the case that an action was refused on, so that the answer can lead back there."""
    case_id = request.path_params.get("case_id")
    return f"/cases/{case_id}" if case_id and status is not HTTPStatus.NOT_FOUND else None


def _case_gone(request: Request, status: HTTPStatus) -> str | None:
    """The case that is not there, or no longer, so that a draft about it can be dropped from the browser."""
    return request.path_params.get("case_id") if status is HTTPStatus.NOT_FOUND else None


def wants_page(request: Request) -> bool:
    """Whether a browser is navigating, as opposed to a device, a script of ours, or a picture being fetched."""
    return not request.url.path.startswith("/api/") and "text/html" in request.headers.get("accept", "")


def _on_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.ReviewError)
    if isinstance(error, errors.NotSignedInError) and request.method == "GET" and wants_page(request):
        return RedirectResponse(f"/login?next={quote(request.url.path)}", HTTPStatus.SEE_OTHER)
    status = next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), HTTPStatus.INTERNAL_SERVER_ERROR)
    title = TITLES.get(type(error), status.phrase)
    return answer(request, status, _kind(type(error)), title, str(error), _headers_for(error))


def _headers_for(error: errors.ReviewError) -> Mapping[str, str]:
    if isinstance(error, errors.DeviceTokenError):
        return {"WWW-Authenticate": 'Bearer realm="earmark devices"'}
    if isinstance(error, errors.EventDeletedError) and error.signature:
        return {SIGNATURE_HEADER: header_of(error.signature)}
    if isinstance(error, errors.TooManyAttemptsError | errors.RestDueError):
        return {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, errors.BlobStoreError | errors.KeyStoreError):
        return _SHORTLY
    return {}


def _kind(error: type[errors.ReviewError]) -> str:
    """`StaleLeaseError` -> `stale-lease`."""
    words = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in error.__name__.removesuffix("Error"))
    return words.strip("-")


def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    details = {
        HTTPStatus.NOT_FOUND: f"there is nothing at {request.url.path}",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method} is not understood at {request.url.path}",
    }
    return answer(request, status, "http", status.phrase, details.get(status, str(error.detail)), error.headers)


def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    return answer(request, status, "request", status.phrase, f"{where}: {first['msg']}, got {first.get('input')!r}")


def _on_disconnect(request: Request, _error: Exception) -> Response:
    status = HTTPStatus.BAD_REQUEST
    return answer(request, status, "truncated", status.phrase, "the body ended before it was whole; send it again")


def _on_busy(request: Request, error: Exception) -> Response:
    logger.error("the database refused %s %s: %s", request.method, request.url.path, error.__cause__ or error)
    status = HTTPStatus.SERVICE_UNAVAILABLE
    detail = "the database is busy or unavailable, so nothing was done; try again shortly"
    return answer(request, status, "database", status.phrase, detail, _SHORTLY)


def _on_defect(request: Request, _error: Exception) -> Response:
    status = HTTPStatus.INTERNAL_SERVER_ERROR
    detail = "something in the service failed and was logged; nothing was recorded"
    return answer(request, status, "defect", "Something went wrong", detail)
