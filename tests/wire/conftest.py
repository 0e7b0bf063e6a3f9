"""A review service that really runs, and a device enrolled with it: both sides of the wire, over a socket."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from earmark_edge.consent import Consent
from earmark_edge.consent_records import write_consent
from earmark_edge.enrolling import enrol
from earmark_edge.keys import read_credentials
from earmark_model.contract import LABELS
from earmark_review.service import open_service
from earmark_review.settings import ReviewSettings
from earmark_review.web.serving import Running, running

ROOT = Path(__file__).parents[2]


@pytest.fixture
def server(tmp_path) -> Iterator[Running]:
    hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    service = open_service(ReviewSettings(data=tmp_path / "review", port=0), hasher=hasher)
    with running(service) as started:
        yield started
    service.close()


@pytest.fixture
def enrolled(server, tmp_path):
    """Makes state folders of devices that enrolled with a code, whose households consent to everything."""

    def make(name: str = "kitchen", **changes) -> Path:
        state = tmp_path / f"state-{name}"
        enrol(server.url, server.service.offer_enrolment(name), state)
        now = datetime.now(UTC)
        times = ((now - timedelta(hours=1)).isoformat(), (now + timedelta(days=30)).isoformat())
        words = {"consent_id": f"consent-{name}", "tiers": (0, 1, 2, 3), "may_train": False, "labels": tuple(LABELS)}
        consent = Consent(**(words | {"given_at": times[0], "expires_at": times[1]} | changes))
        write_consent(state, read_credentials(state).device_key, consent)
        return state

    return make


class CrashingDevice:
    """Runs a device's life, and kills it at a step."""

    def __init__(self, process: subprocess.Popen) -> None:
        self._process = process

    def live(self, state: Path, numbers: list[int], kill_at: int = 0) -> str:
        self._process.stdin.write(json.dumps({"state": str(state), "numbers": numbers, "kill_at": kill_at}) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


@pytest.fixture
def crashing_device() -> Iterator[CrashingDevice]:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.wire.crashing_device"]
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield CrashingDevice(process)
        process.stdin.close()
