"""Reads request bodies that strangers send: capped while they stream, and decoded strictly."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from fastapi import Request

from earmark_review.errors import FormError, MediaTypeError, TooLargeError
from earmark_review.media import bare

Form = Mapping[str, str]
_MOST_FIELDS = 20


def announced_length(request: Request) -> int | None:
    """What `Content-Length` says; None without one. The server has checked that it is a number."""
    text = request.headers.get("content-length")
    return int(text) if text is not None and text.isdecimal() else None


async def read_capped(request: Request, cap_bytes: int) -> bytes:
    """The body, if it is at most `cap_bytes` long.

    Raises:
        TooLargeError: it is longer, or says that it will be.
    """
    body = bytearray()
    announced = announced_length(request)
    if announced is None or announced <= cap_bytes:
        async for chunk in request.stream():
            body += chunk
            if len(body) > cap_bytes:
                break
        else:
            return bytes(body)
    msg = f"the body is larger than the {cap_bytes} bytes that are taken here"
    raise TooLargeError(msg)


async def read_form(request: Request, cap_bytes: int) -> Form:
    """The fields of an urlencoded form; of a repeated field, the first.

    Raises:
        MediaTypeError: the body is of another kind.
        TooLargeError: it is larger than a form is.
        FormError: it is not UTF-8, or has more fields than any form of ours.
    """
    expected = "application/x-www-form-urlencoded"
    given = request.headers.get("content-type", "")
    if bare(given) != expected:
        msg = f"expected a form as {expected}, got {given or 'no content type'!r}"
        raise MediaTypeError(msg)
    body = await read_capped(request, cap_bytes)
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError as error:  # UnicodeError is one
        msg = f"the form cannot be read ({error})"
        raise FormError(msg) from error
    return dict(reversed(pairs))
