"""What a deployment sets for listening, beside `EdgeSettings`: from the environment, read once at the start."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from earmark_edge.settings import PREFIX, SettingsError

LEAST_CANARY_S = 30.0
"""A canary takes about nine seconds and waits for quiet."""


@dataclass(frozen=True, slots=True)
class ListenSettings:
    """Each field is `EARMARK_` and its name in capitals.

    `stall_s`: seconds without a sample after which a source is opened again.
    `silent_s`: seconds of digital silence after which it is reported, and a live source opened again.
    `canary_s`: seconds between canaries, 0 for none.
    `audio_s_per_hour`: how much audio may leave per stream and hour; beyond that, events leave without.
    `status_s`: seconds between two writings of the status file, at most 30: the same loop tells systemd's watchdog that it lives.
    `metrics_port`: a port on the loopback address for Prometheus, 0 for none.
    `updates`: 1 to try bundles that the review service offers, 0 for none.
    `trial_canaries`, `trial_canary_s`: so many canaries must such a bundle hear, one every so many seconds, before it takes over.
    `mute_gpio`: Broadcom's number of a GPIO line with a mute switch to ground; none if it is not set.
    """

    stall_s: float = 5.0
    silent_s: float = 60.0
    canary_s: float = 3_600.0
    audio_s_per_hour: float = 600.0
    status_s: float = 10.0
    metrics_port: int = 0
    updates: int = 1
    trial_canaries: int = 3
    trial_canary_s: float = 300.0
    mute_gpio: int | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> ListenSettings:
        """Read the variables; one that is empty counts as not set.

        Raises:
            SettingsError: a variable holds something else than documented.
        """
        given = {name.removeprefix(PREFIX).lower(): text for name, text in environ.items() if name.startswith(PREFIX) and text}
        values: dict[str, float | int] = {}
        for name in (entry.name for entry in fields(cls) if entry.name in given):
            is_whole, least, most = _RANGES[name]
            values[name] = _number(name, given[name], least, most, is_whole=is_whole)
        if 0 < values.get("canary_s", 0) < LEAST_CANARY_S:
            msg = f"{PREFIX}CANARY_S: canaries come at most every {LEAST_CANARY_S:g} s, or never with 0, got {given['canary_s']!r}"
            raise SettingsError(msg)
        return cls(**values)  # type: ignore[arg-type]  # each value was made for its own field


_RANGES = {
    "stall_s": (False, 0.5, 3_600.0),
    "silent_s": (False, 1.0, 86_400.0),
    "canary_s": (False, 0.0, 604_800.0),
    "audio_s_per_hour": (False, 1.0, 3_600.0),
    "status_s": (False, 0.1, 30.0),
    "metrics_port": (True, 0, 65_535),
    "updates": (True, 0, 1),
    "trial_canaries": (True, 1, 1_000),
    "trial_canary_s": (False, LEAST_CANARY_S, 86_400.0),
    "mute_gpio": (True, 0, 1_023),
}


def _number(name: str, text: str, least: float, most: float, *, is_whole: bool) -> float | int:
    try:
        value = int(text) if is_whole else float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        kind = "a whole number" if is_whole else "a number"
        msg = f"{PREFIX}{name.upper()}: expected {kind} from {least:g} to {most:g}, got {text!r}"
        raise SettingsError(msg)
    return value
