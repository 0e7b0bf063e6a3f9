"""Deployment settings, read once at start from `EARMARK_REVIEW_*` and injected; nothing else reads the environment."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from earmark_review.cases import LeaseTerms
from earmark_review.errors import SettingsError
from earmark_review.wellness import Limits

_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._-]+)*/?")
_ADDRESS = r"^[^@\s<>,;]+@[^@\s<>,;]+$"


class MailSecurity(StrEnum):
    """How the way to the mail server is kept."""

    TLS = "tls"
    STARTTLS = "starttls"
    NONE = "none"


class ReviewSettings(BaseSettings):
    """Every knob of the service; the environment variable is `EARMARK_REVIEW_` and the name in capitals."""

    model_config = SettingsConfigDict(env_prefix="EARMARK_REVIEW_", frozen=True, extra="forbid")

    data: Path = Path("earmark-review")
    """Folder of the database and the blobs; made on first start, readable by its owner alone."""
    database: str | None = Field(None, repr=False)
    """SQLAlchemy URL of the cases, such as `postgresql://USER:PASSWORD@HOST/NAME`; without one, a SQLite file in `data`."""
    keys: str | None = Field(None, repr=False)
    """SQLAlchemy URL of the wrapped keys, a database that backups leave out; without one, a SQLite file in `data`."""
    blobs: str | None = None
    """An S3 store of the clips, `s3://BUCKET/PREFIX`; without one, a folder in `data`. obstore reads who and where from `AWS_*`."""
    host: str = "127.0.0.1"
    port: int = Field(8600, ge=0, le=65535)
    """0 takes any free port."""
    workers: int = Field(1, ge=1, le=64)
    """Processes that serve; more than one pays on PostgreSQL, with a processor for each."""
    clip_bytes_cap: int = Field(16 * 2**20, gt=0)
    """Largest object that a device may send, in bytes."""
    clip_seconds_cap: float = Field(120, gt=0)
    """How much of a clip is decoded for the pictures, in seconds."""
    form_bytes_cap: int = Field(32 * 2**10, ge=1024)
    note_chars_cap: int = Field(4000, gt=0)
    lease_s: float = Field(300, gt=0)
    """A claim ends this long after its last heartbeat."""
    lease_limit_s: float = Field(3600, gt=0)
    """A claim ends this long after it began, heartbeat or not."""
    leases_per_reviewer: int = Field(1, ge=1)
    session_idle_s: float = Field(3600, gt=0)
    session_s: float = Field(12 * 3600, gt=0)
    sign_in_failures: int = Field(5, ge=1)
    """Failures for one name from one address before sign-in pauses; six times as many for the name or the address alone."""
    sign_in_window_s: float = Field(900, gt=0)
    origin: str | None = None
    """Where browsers find the service, such as https://review.example; passkeys and single sign-on are bound to it."""
    passkeys: bool = False
    """Whether accounts may register passkeys and sign in with them."""
    oidc_issuer: str | None = None
    """The provider of identities for single sign-on, such as https://id.example; exactly as it names itself."""
    oidc_client_id: str | None = None
    oidc_client_secret: SecretStr | None = None
    oidc_name: str = Field("single sign-on", min_length=1, max_length=40)
    """What the provider is called on the sign-in page."""
    second_review_share: float = Field(0.1, ge=0, le=1)
    """Share of first verdicts that a second reviewer checks without knowing of the first."""
    golden_share: float = Field(0.05, ge=0, le=1)
    """Share of claims of the next case that are given one whose answer is known, where there is one."""
    day_s: float = Field(5 * 3600, gt=0, le=5 * 3600)
    """Exposure that anyone may have in a day; it can be lowered, never raised."""
    run_s: float = Field(3600, gt=0, le=3600)
    """Exposure after which a break is due."""
    break_s: float = Field(600, ge=300)
    original_s: float = Field(600, gt=0, le=3600)
    """How long an original stays open once a second person agreed."""
    loudness_dbfs: float = Field(-26, ge=-60, le=-12)
    """What clips are brought down to when they are louder (RMS of the loudest 400 ms), in decibels below full scale."""
    undecided_s: float = Field(72 * 3600, gt=0, le=72 * 3600)
    """What nobody decided by then expires, and its keys and bytes go."""
    audit_anchor: Path | None = None
    """A file, out of reach of whoever can write the database, that the log's signed head is added to while the service runs."""
    audit_mail_to: str | None = Field(None, pattern=_ADDRESS)
    """Who the log's signed head is mailed to while the service runs."""
    audit_mail_from: str | None = Field(None, pattern=_ADDRESS)
    audit_mail_every_s: float = Field(3600, ge=60)
    """How often it is, while there is anything new."""
    audit_smtp_host: str = "localhost"
    audit_smtp_port: int = Field(465, ge=1, le=65535)
    audit_smtp_security: MailSecurity = MailSecurity.TLS
    audit_smtp_user: str | None = None
    audit_smtp_password: SecretStr | None = None
    metrics_token: SecretStr | None = Field(None, min_length=16)
    """What Prometheus shows at /metrics; without one, only this machine may fetch it."""
    otlp_endpoint: str | None = Field(None, pattern=r"^https?://[^\s?#]+[^\s?#/]$")
    """The operator's own OpenTelemetry collector (OTLP over HTTP), such as http://127.0.0.1:4318; nothing is sent without one."""
    starting_volume: float = Field(0.15, ge=0, le=1)
    """Where the player's volume stands before anyone has touched it; 1 is full."""

    @field_validator("blobs")
    @classmethod
    def _is_a_bucket(cls, blobs: str | None) -> str | None:
        if blobs is not None and not _BUCKET.fullmatch(blobs):
            msg = "expected s3://BUCKET or s3://BUCKET/PREFIX, of letters, digits, dots and dashes"
            raise ValueError(msg)
        return blobs

    @model_validator(mode="after")
    def _limits_are_ordered(self) -> Self:
        if self.lease_limit_s < self.lease_s:
            msg = f"lease_limit_s ({self.lease_limit_s:g}) must not be shorter than lease_s ({self.lease_s:g})"
            raise ValueError(msg)
        if self.session_s < self.session_idle_s:
            msg = f"session_s ({self.session_s:g}) must not be shorter than session_idle_s ({self.session_idle_s:g})"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _mail_is_safe(self) -> Self:
        if self.audit_smtp_security is MailSecurity.NONE and self.audit_smtp_host not in {"localhost", "127.0.0.1", "::1"}:
            msg = f"audit_smtp_security may be none for this machine alone; give tls or starttls for {self.audit_smtp_host!r}"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _origin_is_one(self) -> Self:
        if self.origin is not None:
            parts = urlsplit(self.origin)
            is_safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname == "localhost")
            if not is_safe or not parts.hostname or self.origin != f"{parts.scheme}://{parts.netloc}" or "@" in parts.netloc:
                msg = f"origin must be https://HOST, or http://localhost with a port, and nothing after it; got {self.origin!r}"
                raise ValueError(msg)
        elif self.passkeys or self.oidc_issuer is not None:
            msg = "passkeys and single sign-on need EARMARK_REVIEW_ORIGIN, the address that browsers find the service at"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _provider_is_whole(self) -> Self:
        given = (self.oidc_issuer, self.oidc_client_id, self.oidc_client_secret)
        if any(given) and not all(given):
            msg = "single sign-on needs EARMARK_REVIEW_OIDC_ISSUER, _OIDC_CLIENT_ID and _OIDC_CLIENT_SECRET, all three"
            raise ValueError(msg)
        if self.oidc_issuer is not None:
            parts = urlsplit(self.oidc_issuer)
            is_safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in {"localhost", "127.0.0.1"})
            if not is_safe or not parts.hostname or parts.query or parts.fragment:
                msg = f"oidc_issuer must be an https address without a query; got {self.oidc_issuer!r}"
                raise ValueError(msg)
        return self

    @property
    def sqlalchemy_url(self) -> str:
        """The address of the database, as SQLAlchemy writes it."""
        return self.database or f"sqlite:///{self.data / 'review.db'}"

    @property
    def limits(self) -> Limits:
        """How long anyone may look and listen."""
        return Limits(self.day_s, self.run_s, self.break_s)

    @property
    def lease_terms(self) -> LeaseTerms:
        """How long claims last."""
        return LeaseTerms(self.lease_s, self.lease_limit_s)


def read_settings(**overrides: object) -> ReviewSettings:
    """Settings from the environment, with `overrides` (those that are not None) on top.

    Raises:
        SettingsError: a value is outside its range; the text names the variable.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return ReviewSettings(**given)  # type: ignore[arg-type]  # pydantic checks each value
    except ValidationError as error:
        first = error.errors()[0]
        where = "_".join(str(part) for part in first["loc"])
        name = f"EARMARK_REVIEW_{where.upper()}: " if where else ""
        msg = (
            f"{name}{first['msg'].removeprefix('Value error, ')}, got {first['input']!r}"
            if where
            else first["msg"].removeprefix("Value error, ")
        )
        raise SettingsError(msg) from error
