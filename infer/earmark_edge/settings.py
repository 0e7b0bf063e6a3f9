"""What a deployment sets, from the environment, read once at the start."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from earmark_edge.bundle_store import BUNDLES_FOLDER, BundleStore
from earmark_edge.decide import DecideConfig, DecideConfigError
from earmark_edge.keys import KeyFileError, read_credentials

logger = logging.getLogger(__name__)

PREFIX = "EARMARK_"
DEFAULT_OUTBOX_BYTES = 256 * 2**20
_LEAST_BYTES, _MOST_BYTES = 2**20, 2**50


class SettingsError(ValueError):
    """A setting is not of the documented form; the message names the variable."""


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """The device's settings; every field of `DecideConfig` is one too, such as `EARMARK_MARGIN_S`.

    `bundle` (`EARMARK_BUNDLE`): the bundle to run, its folder or the name of one that ships, whatever the review service offers.
    `threads` (`EARMARK_THREADS`): how many the graph may use.
    `state` (`EARMARK_STATE`): the folder of the device's key, enrolment, consent and outbox.
    `outbox_bytes` (`EARMARK_OUTBOX_BYTES`): how much sealed audio may wait there.
    """

    bundle: Path | None = None
    threads: int = 1
    state: Path = Path("earmark-state")
    outbox_bytes: int = DEFAULT_OUTBOX_BYTES
    decide: DecideConfig = field(default_factory=DecideConfig)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> EdgeSettings:
        """Read the variables; one that is empty counts as not set.

        Raises:
            SettingsError: a variable holds something else than documented.
        """
        given = {name.removeprefix(PREFIX): value for name, value in environ.items() if name.startswith(PREFIX) and value}
        return cls(
            bundle=Path(given["BUNDLE"]) if "BUNDLE" in given else None,
            threads=_threads(given.get("THREADS", "1")),
            state=Path(given["STATE"]) if "STATE" in given else _default_state(environ),
            outbox_bytes=_bytes("OUTBOX_BYTES", given.get("OUTBOX_BYTES")),
            decide=_decide(given),
        )


def default_bundle() -> Path:
    """The bundle that ships with this package, or the source tree's own; the folder may be missing, which reading it tells."""
    here = Path(__file__).resolve().parent
    installed = here / "bundles" / "earmark"
    return installed if installed.is_dir() else here.parents[1] / "model" / "bundles" / "earmark"


def named_bundle(given: Path) -> Path:
    """The folder `given`, or where there is none of that name, the bundle of that name that ships, such as `earmark-light`."""
    shipped = default_bundle().parent / given
    return shipped if given.name == str(given) and not given.exists() and shipped.is_dir() else given


def bundle_to_run(given: Path | None, state: Path) -> tuple[Path, int]:
    """The bundle's folder, and its version where the review service offered it: `given` first, then what passed its trial, then ours."""
    if given is not None:
        return named_bundle(given), 0
    if (state / BUNDLES_FOLDER).is_dir():
        try:
            store = BundleStore(state, read_credentials(state).enrolment.signing_key)
        except KeyFileError as error:
            logger.warning("offered bundles cannot be checked: %s; the one that ships runs", error)
        else:
            if version := store.running():
                return store.folder(version), version
    return default_bundle(), 0


def _default_state(environ: Mapping[str, str]) -> Path:
    """Where the XDG base directory specification puts a program's state; systemd's own variable comes first."""
    if folder := environ.get("STATE_DIRECTORY"):
        return Path(folder.partition(":")[0])
    base = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME") or Path.home()) / ".local" / "state"
    return Path(base) / "earmark"


def _bytes(name: str, text: str | None) -> int:
    if text is None:
        return DEFAULT_OUTBOX_BYTES
    if not (text.isascii() and text.isdigit() and _LEAST_BYTES <= int(text) <= _MOST_BYTES):
        msg = f"{PREFIX}{name}: expected a number of bytes from {_LEAST_BYTES} to {_MOST_BYTES}, got {text!r}"
        raise SettingsError(msg)
    return int(text)


def _threads(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 1024):  # noqa: PLR2004 - beyond any device
        msg = f"{PREFIX}THREADS: expected a number of threads from 1 to 1024, got {text!r}"
        raise SettingsError(msg)
    return int(text)


def _decide(given: Mapping[str, str]) -> DecideConfig:
    values: dict[str, float | tuple[str, ...]] = {}
    for name in (entry.name for entry in fields(DecideConfig)):
        text = given.get(name.upper())
        if text is None:
            continue
        if name == "route_also":
            values[name] = tuple(label.strip() for label in text.split(",") if label.strip())
        else:
            values[name] = _number(name, text)
    try:
        return DecideConfig(**values)  # type: ignore[arg-type]  # each value was made for its own field
    except DecideConfigError as error:
        msg = f"{PREFIX}* settings: {error}"
        raise SettingsError(msg) from error


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        msg = f"{PREFIX}{name.upper()}: expected a number, got {text!r}"
        raise SettingsError(msg)
    return value
