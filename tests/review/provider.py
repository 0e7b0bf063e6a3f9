"""Providers of identities on the loopback address: ours, which can be bent, and oidc-provider-mock, which others wrote.

Ours speaks OpenID Connect's code flow with PKCE, signed by joserfc.
"""

from __future__ import annotations

import base64
import json
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from tests.waiting import until

CLIENT_ID, CLIENT_SECRET = "earmark-review", "a secret of the test"


class TestProvider:
    """Signs whoever comes in as `subject`. What it says can be bent: `claims` overrides claims, `key` signs instead, None drops a claim."""

    __test__ = False

    def __init__(self) -> None:
        self.key = self.published = ECKey.generate_key("P-256", {"kid": "k1", "use": "sig"})
        self.subject, self.issuer, self.issuer_told = "subject-1", "", ""
        self.claims: dict[str, Any] = {}
        self.header: dict[str, Any] = {"alg": "ES256", "kid": "k1"}
        self.codes: dict[str, dict[str, str]] = {}
        self.refusal, self.is_down = "", False
        self.asked: list[dict[str, str]] = []

    def authorize(self, query: dict[str, str]) -> str:
        """Where the browser goes from here."""
        self.asked.append(query)
        assert query["response_type"] == "code"
        assert query["client_id"] == CLIENT_ID
        assert query["code_challenge_method"] == "S256"
        if self.refusal:
            return f"{query['redirect_uri']}?{urlencode({'error': self.refusal, 'state': query['state']})}"
        code = secrets.token_urlsafe(16)
        self.codes[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state'], 'iss': self.issuer})}"

    def token(self, form: dict[str, str], authorization: str) -> dict[str, Any] | None:
        """A token for a code, once, to the client that shows its secret and the verifier; None for a refusal."""
        query = self.codes.pop(form.get("code", ""), None)
        expected = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET.replace(' ', '+')}".encode()).decode()
        plain = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        is_client = authorization in {f"Basic {expected}", f"Basic {plain}"}
        if query is None or not is_client or form.get("redirect_uri") != query["redirect_uri"]:
            return None
        if create_s256_code_challenge(form.get("code_verifier", "")) != query["code_challenge"]:
            return None
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT_ID, "sub": self.subject, "nonce": query["nonce"], "iat": now, "exp": now + 300}
        claims = {name: value for name, value in {**claims, **self.claims}.items() if value is not None}
        return {"access_token": "unused", "token_type": "Bearer", "id_token": jwt.encode(self.header, claims, self.key)}

    def metadata(self) -> dict[str, Any]:
        """What it says of itself."""
        paths = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
        return {"issuer": self.issuer_told or self.issuer, **{name: f"{self.issuer}/{path}" for name, path in paths.items()}}


@contextmanager
def running_provider() -> Iterator[TestProvider]:
    """A provider while the block runs."""
    provider = TestProvider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if provider.is_down:
                self._send(503, {})
            elif parts.path == "/.well-known/openid-configuration":
                self._send(200, provider.metadata())
            elif parts.path == "/keys":
                self._send(200, KeySet([provider.published]).as_dict(private=False))
            elif parts.path == "/authorize":
                self.send_response(302)
                self.send_header("Location", provider.authorize({name: values[0] for name, values in parse_qs(parts.query).items()}))
                self.end_headers()
            else:
                self._send(404, {})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            token = provider.token(form, self.headers.get("Authorization", ""))
            self._send(200 if token else 400, token or {"error": "invalid_grant"})

        def _send(self, status: int, document: dict[str, Any]) -> None:
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.issuer = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def running_other_provider() -> Iterator[str]:
    """The address of one that takes registered clients alone and wants a nonce, in a process of its own; it does not look at PKCE."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()
    words = ["-m", "oidc_provider_mock", "--port", str(address[1]), "--require-registration", "true", "--require-nonce", "true"]
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        assert process.poll() is None, "the provider did not start"
        with socket.socket() as tried:
            return tried.connect_ex(address) == 0

    try:
        until(answers, 30)
        yield f"http://127.0.0.1:{address[1]}"
    finally:
        process.kill()
        process.wait()
