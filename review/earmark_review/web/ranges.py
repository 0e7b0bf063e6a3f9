"""Serves bytes that lie in RAM alone, whole or in the one range that a player asks for (RFC 9110, section 14)."""

from __future__ import annotations

import re
from http import HTTPStatus

from fastapi import Request, Response

_ONE_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)


def ranged(request: Request, content: bytes, media_type: str | None) -> Response:
    """The answer to `request` from `content`; several ranges at once, which no player needs, get the whole."""
    headers = {"Accept-Ranges": "bytes"}
    asked = _ONE_RANGE.fullmatch(request.headers.get("range", "").strip())
    if asked is None or asked.groups() == ("", ""):
        return Response(content, headers=headers, media_type=media_type)
    first, last = asked.groups()
    start = int(first) if first else max(0, len(content) - int(last))
    end = min(int(last) + 1, len(content)) if first and last else len(content)
    if start >= end:
        unsatisfied = {**headers, "Content-Range": f"bytes */{len(content)}"}
        return Response(status_code=HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers=unsatisfied)
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
    return Response(content[start:end], HTTPStatus.PARTIAL_CONTENT, headers=headers, media_type=media_type)
