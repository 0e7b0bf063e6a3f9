"""What a deployment sets for telling the household's own systems; nothing is told where nothing is set."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from earmark_edge.keys import KeyFileError, read_private
from earmark_edge.oneline import one_line
from earmark_edge.settings import PREFIX, SettingsError
from earmark_edge.uplink import is_loopback

_MOST_SECRET_CHARS = 1_000
_LEAST_SECRET_CHARS = 24


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """A broker: `name` is this device's in topics and in Home Assistant, `prefix` where Home Assistant looks for new devices."""

    host: str
    port: int
    is_tls: bool
    name: str
    prefix: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None

    @property
    def address(self) -> str:
        """For people: without user and password."""
        return f"mqtt{'s' if self.is_tls else ''}://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """Where to post, and the secret that bodies are signed with."""

    url: str
    secret: str = field(repr=False)

    @property
    def address(self) -> str:
        """For people: host alone, since paths and queries of webhooks are often secrets."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"


@dataclass(frozen=True, slots=True)
class AnnounceSettings:
    """`EARMARK_MQTT_URL`, `_USER`, `_PASSWORD_FILE`, `_CA_FILE`, `_NAME`, `_PREFIX`; `EARMARK_WEBHOOK_URL`, `_SECRET_FILE`."""

    mqtt: MqttSettings | None = None
    webhook: WebhookSettings | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> AnnounceSettings:
        """Read the variables; one that is empty counts as not set.

        Raises:
            SettingsError: a variable holds something else than documented, or a file that it names is open to others.
        """
        given = {name.removeprefix(PREFIX): text for name, text in environ.items() if name.startswith(PREFIX) and text}
        return cls(_mqtt(given), _webhook(given))


def _mqtt(given: Mapping[str, str]) -> MqttSettings | None:
    if "MQTT_URL" not in given:
        return None
    url = given["MQTT_URL"]
    parts = _parts("MQTT_URL", url, {"mqtt": 1883, "mqtts": 8883})
    host, is_tls = str(parts.hostname), parts.scheme == "mqtts"
    if parts.path not in {"", "/"} or parts.query:
        msg = f"{PREFIX}MQTT_URL: expected an address such as mqtts://broker.local:8883, got {one_line(url)}"
        raise SettingsError(msg)
    if not is_tls and not is_loopback(host):
        msg = f"{PREFIX}MQTT_URL: plain mqtt would tell the whole network when someone screams; use mqtts, or a broker on this machine"
        raise SettingsError(msg)
    name, prefix = given.get("MQTT_NAME", "earmark"), given.get("MQTT_PREFIX", "homeassistant")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        msg = f"{PREFIX}MQTT_NAME: expected 1 to 64 letters, digits, _ or -, got {name!r}"
        raise SettingsError(msg)
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}(/[A-Za-z0-9_-]{1,64}){0,7}", prefix):
        msg = f"{PREFIX}MQTT_PREFIX: expected a topic of letters, digits, _, - and /, got {prefix!r}"
        raise SettingsError(msg)
    password = _secret("MQTT_PASSWORD_FILE", given, least_chars=1)
    if password is not None and "MQTT_USER" not in given:
        msg = f"{PREFIX}MQTT_PASSWORD_FILE: a password needs {PREFIX}MQTT_USER"
        raise SettingsError(msg)
    ca = Path(given["MQTT_CA_FILE"]) if "MQTT_CA_FILE" in given else None
    port = parts.port or (8883 if is_tls else 1883)
    return MqttSettings(host, port, is_tls, name, prefix, given.get("MQTT_USER"), password, ca)


def _webhook(given: Mapping[str, str]) -> WebhookSettings | None:
    if "WEBHOOK_URL" not in given:
        return None
    url = given["WEBHOOK_URL"]
    parts = _parts("WEBHOOK_URL", url, {"https": 443, "http": 80})
    if parts.scheme == "http" and not is_loopback(str(parts.hostname)):
        msg = f"{PREFIX}WEBHOOK_URL: plain http would tell the whole network when someone screams; use https"
        raise SettingsError(msg)
    secret = _secret("WEBHOOK_SECRET_FILE", given, least_chars=_LEAST_SECRET_CHARS)
    if secret is None:
        msg = (
            f"{PREFIX}WEBHOOK_SECRET_FILE: a webhook's bodies are signed; name a file with a secret, as `openssl rand -base64 32` makes one"
        )
        raise SettingsError(msg)
    return WebhookSettings(url, secret)


def _parts(name: str, url: str, schemes: Mapping[str, int]) -> SplitResult:
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or parts.fragment:
        msg = f"{PREFIX}{name}: expected an address that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}"
        raise SettingsError(msg)
    if parts.username or parts.password:
        msg = (
            f"{PREFIX}{name}: no user or password in the address, where every user of this machine can read it; there is a setting for each"
        )
        raise SettingsError(msg)
    return parts


def _secret(name: str, given: Mapping[str, str], *, least_chars: int) -> str | None:
    if name not in given:
        return None
    try:
        text = read_private(Path(given[name])).decode().strip()
    except (KeyFileError, UnicodeDecodeError) as error:
        msg = f"{PREFIX}{name}: {error}"
        raise SettingsError(msg) from error
    if not least_chars <= len(text) <= _MOST_SECRET_CHARS or not text.isprintable():
        msg = f"{PREFIX}{name}: expected one line of {least_chars} to {_MOST_SECRET_CHARS} characters in {given[name]}"
        raise SettingsError(msg)
    return text
