"""What wraps every answer: security headers, and an access log without query strings, headers or cookies."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_STATIC_PREFIX = "/static/"
_YEAR_S = 31_536_000


class SecurityHeaders:
    """Adds the headers; whatever is not a static asset is never stored by a browser or a proxy."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, with headers."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers["Cache-Control"] = "no-cache" if scope["path"].startswith(_STATIC_PREFIX) else "no-store"
                if scope["scheme"] == "https":
                    headers["Strict-Transport-Security"] = f"max-age={_YEAR_S}"
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


async def pass_on(app: ASGIApp, scope: Scope, receive: Receive, send: Send, note: Callable[[int], None]) -> None:
    """Let `app` answer; `note` is called once it has, or has failed (500), with the status. What is no HTTP request passes unnoted."""
    if scope["type"] != "http":
        await app(scope, receive, send)
        return
    status = 500

    async def send_noting_status(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        await send(message)

    try:
        await app(scope, receive, send_noting_status)
    finally:
        note(status)


class AccessLog:
    """One line for each request. The path alone is written: a query string may hold what someone pasted there."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and note how it went."""
        began_s = time.monotonic()

        def note(status: int) -> None:
            took_ms = 1000 * (time.monotonic() - began_s)
            path = scope["path"].encode("unicode_escape").decode()  # a line break in a path must not begin a line in the log
            logger.info("%s %s answered %d in %.0f ms", scope["method"], path, status, took_ms)

        await pass_on(self._app, scope, receive, send, note)
