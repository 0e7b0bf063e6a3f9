"""Settings that no part of a device reads: a switch that is misspelt would mute nothing, and nobody would know."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields

from earmark_edge.decide import DecideConfig
from earmark_edge.listen.settings import ListenSettings
from earmark_edge.settings import PREFIX, EdgeSettings

_ANNOUNCING = (
    "MQTT_CA_FILE",
    "MQTT_NAME",
    "MQTT_PASSWORD_FILE",
    "MQTT_PREFIX",
    "MQTT_URL",
    "MQTT_USER",
    "WEBHOOK_SECRET_FILE",
    "WEBHOOK_URL",
)
_OF_THE_UNIT = ("INPUTS", "LISTEN_OPTIONS")
_OTHERS = ("EARMARK_REVIEW_", "EARMARK_NO_SKIPS", "EARMARK_CORPUS")


def misspelt(environ: Mapping[str, str]) -> list[str]:
    """A sentence for each variable that begins as a device's settings do and is none of them."""
    read = {entry.name.upper() for kind in (EdgeSettings, ListenSettings, DecideConfig) for entry in fields(kind)} - {"DECIDE"}
    known = sorted(PREFIX + name for name in {*read, *_ANNOUNCING, *_OF_THE_UNIT})
    unknown = [name for name in sorted(environ) if name.startswith(PREFIX) and not name.startswith(_OTHERS) and name not in known]
    return [f"{name} is no setting and does nothing{_meant(name, known)}" for name in unknown]


def _meant(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; is {near[0]} meant?" if near else ""
