"""What the device says about itself: counts and states, never scores, levels or anything else that was heard."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from earmark_edge.listen.health import ADVICE, Problem
from earmark_edge.listen.supervisor import State

STATUS_FILE = "status.json"
STATUS_SCHEMA = 1


class StatusError(ValueError):
    """There is no status to read; the message says why."""


@dataclass(slots=True)
class CanaryStatus:
    """How canaries fared on one stream; times in UTC, `every_s` 0 where there are none."""

    every_s: float
    heard: int = 0
    missed: int = 0
    last_at: str | None = None
    last_heard_at: str | None = None
    is_last_heard: bool | None = None


@dataclass(slots=True)
class StreamStatus:
    """One input. `heard_s`: seconds of sound that were decided on; `muted_s` that were thrown away unheard."""

    name: str
    canary: CanaryStatus
    state: State = State.STARTING
    problems: tuple[Problem, ...] = ()
    heard_s: float = 0.0
    muted_s: float = 0.0
    restarts: int = 0
    failures: int = 0
    last_failure: str = ""
    last_audio_at: str | None = None
    events: int = 0
    incidents: int = 0
    events_without_audio: int = 0


@dataclass(slots=True)
class Status:
    """The whole process, at `at` (UTC)."""

    version: str
    pid: int
    started_at: str
    at: str
    bundle_sha256: str
    config_sha256: str
    unverified: tuple[str, ...]
    streams: list[StreamStatus]
    muted_by: tuple[str, ...] = ()
    delivery: dict[str, int] = field(default_factory=dict)
    bundle: dict[str, int | str] = field(default_factory=dict)
    """Of offered bundles: the version that runs, the one taken in last, and what became of it; empty where none are taken."""
    scoring_s: float = 0.0
    is_running: bool = True
    schema: int = STATUS_SCHEMA

    def to_json(self) -> str:
        """Readable JSON."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"

    def write(self, folder: Path) -> None:
        """Replace the status file in one step; readable by the owner alone.

        Raises:
            OSError: it cannot be written.
        """
        descriptor, name = tempfile.mkstemp(prefix=".status-", dir=folder)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(self.to_json())
            Path(name).replace(folder / STATUS_FILE)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def troubles(stream: Mapping[str, Any]) -> list[str]:
    """What is wrong with a stream of a status that was read, in plain words; empty if nothing is."""
    said = [ADVICE[Problem(problem)] for problem in stream["problems"]]
    if stream["state"] in {State.DOWN, State.STALLED}:
        said.append(stream["last_failure"] or "no samples arrive")
    if stream["canary"]["is_last_heard"] is False:
        said.append(f"the canary of {stream['canary']['last_at']} was missed: a real scream may be missed too")
    return said


def read_status(folder: Path) -> Mapping[str, Any]:
    """What the status file says, as plain JSON.

    Raises:
        StatusError: there is none, or it is not of this version's form.
    """
    path = folder / STATUS_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        msg = f"{path}: no such file; `earmark edge listen` writes it"
        raise StatusError(msg) from error
    except (OSError, ValueError, RecursionError) as error:
        msg = f"{path}: cannot be read ({error})"
        raise StatusError(msg) from error
    if not isinstance(raw, dict) or raw.get("schema") != STATUS_SCHEMA or not isinstance(raw.get("streams"), list):
        msg = f"{path}: not a status of this version"
        raise StatusError(msg)
    return raw
