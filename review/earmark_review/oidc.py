"""Single sign-on by OpenID Connect: the authorization-code flow with PKCE, state and nonce, by authlib and joserfc.

Of what the provider says, the service believes who someone is there (issuer and subject) and nothing else: no e-mail address, which may be
unverified or pass to someone else, no name, no role.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import OAuth2Client
from httpx2 import HTTPError
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from earmark_review.errors import ProviderError, SignInError
from earmark_review.settings import ReviewSettings
from earmark_review.tokens import new_token

BACK_PATH = "/login/provider/back"
_TIMEOUT_S = 10.0
_LEEWAY_S = 60
_ALGORITHMS = ["RS256", "PS256", "ES256", "EdDSA"]
_MOST_CHARS = 255
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri")


@dataclass(frozen=True, slots=True)
class Memory:
    """What is kept on the server while someone is at the provider. `user_id` is set where an account is being linked."""

    state: str = field(repr=False)
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    to: str
    user_id: int | None = None

    def to_text(self) -> str:
        """JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Memory:
        """What `to_text` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True, slots=True)
class Identity:
    """Who someone is at a provider."""

    issuer: str
    subject: str


class Provider:
    """The one provider of a service."""

    def __init__(self, settings: ReviewSettings) -> None:
        assert settings.oidc_issuer is not None, "asked for a provider that is not set up"
        assert settings.origin is not None, "the settings hold that there is one"
        self._issuer, self._client_id = settings.oidc_issuer, settings.oidc_client_id or ""
        self._secret = settings.oidc_client_secret.get_secret_value() if settings.oidc_client_secret else ""
        self._back = settings.origin + BACK_PATH

    def leave(self, to: str, user_id: int | None = None) -> tuple[str, Memory]:
        """The provider's address to send a browser to, and what to remember until it is back.

        Raises:
            ProviderError: the provider cannot be reached, or does not describe itself as it must.
        """
        memory = Memory(new_token(), new_token(), new_token() + new_token(), to, user_id)
        with self._client() as client:
            endpoint = self._metadata(client)["authorization_endpoint"]
            url, _ = client.create_authorization_url(endpoint, state=memory.state, code_verifier=memory.verifier, nonce=memory.nonce)
        return str(url), memory

    def come_back(self, query: Mapping[str, str], memory: Memory) -> Identity:
        """Who the provider says that the browser's user is.

        Raises:
            ProviderError: the provider cannot be reached, or does not speak as it must.
            SignInError: the provider refused, or the answer is not to what was asked.
        """
        if (
            not hmac.compare_digest(query.get("state", "").encode(), memory.state.encode())
            or query.get("iss", self._issuer) != self._issuer
        ):
            msg = "the answer is not to what this browser asked; begin again"
            raise SignInError(msg)
        if "code" not in query:
            msg = f"the provider did not let you in ({query.get('error', 'no reason')[:40]})"
            raise SignInError(msg)
        with self._client() as client:
            known = self._metadata(client)
            try:
                token = client.fetch_token(known["token_endpoint"], code=query["code"], code_verifier=memory.verifier)
            except (AuthlibBaseError, HTTPError, ValueError) as error:
                msg = f"the provider did not confirm the sign-in ({type(error).__name__}); begin again"
                raise SignInError(msg) from error
            keys = _json(client, known["jwks_uri"])
        return self._identity(token.get("id_token"), keys, memory.nonce)

    def _identity(self, id_token: Any, keys: Any, nonce: str) -> Identity:
        """The claims of an ID token, checked as OpenID Connect Core 1.0, section 3.1.3.7, says."""
        registry = jwt.JWTClaimsRegistry(
            leeway=_LEEWAY_S,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._client_id},
            nonce={"essential": True, "value": nonce},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
        )
        try:
            claims = jwt.decode(id_token, KeySet.import_key_set(keys), algorithms=_ALGORITHMS).claims
            registry.validate(claims)
        except (JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
            msg = f"the provider's word on who you are does not hold ({type(error).__name__}); begin again"
            raise SignInError(msg) from error
        subject = claims["sub"]
        is_for_another = isinstance(claims["aud"], list) and len(claims["aud"]) > 1 and claims.get("azp") != self._client_id
        if is_for_another or not isinstance(subject, str) or not 0 < len(subject) <= _MOST_CHARS:
            msg = "the provider's word on who you are is for another service, or names nobody"
            raise SignInError(msg)
        return Identity(self._issuer, subject)

    def _client(self) -> OAuth2Client:
        return OAuth2Client(
            self._client_id,
            self._secret,
            scope="openid",
            redirect_uri=self._back,
            code_challenge_method="S256",
            timeout=_TIMEOUT_S,
            follow_redirects=False,
        )

    def _metadata(self, client: OAuth2Client) -> Mapping[str, str]:
        """What the provider says of itself: its own issuer, exactly, and endpoints that are as safe as it is."""
        told = _json(client, self._issuer.rstrip("/") + "/.well-known/openid-configuration")
        scheme = urlsplit(self._issuer).scheme
        endpoints = [told.get(name) for name in _ENDPOINTS] if isinstance(told, dict) else [None]
        is_whole = all(isinstance(one, str) and urlsplit(one).scheme == scheme for one in endpoints)
        if not is_whole or told.get("issuer") != self._issuer:
            msg = f"{self._issuer} does not describe itself as a provider with that very name; check EARMARK_REVIEW_OIDC_ISSUER"
            raise ProviderError(msg)
        return {name: str(told[name]) for name in _ENDPOINTS}


def _json(client: OAuth2Client, url: str) -> Any:
    try:
        return client.request("GET", url, withhold_token=True).raise_for_status().json()
    except (HTTPError, ValueError) as error:
        msg = f"single sign-on cannot be reached just now ({type(error).__name__}); sign in with your password"
        raise ProviderError(msg) from error
