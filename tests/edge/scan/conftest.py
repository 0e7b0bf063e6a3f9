"""`earmark edge scan` with the tone bundle, and recordings for it."""

import json
import os

import pytest
import soundfile
from typer.testing import CliRunner

from earmark_edge.cli import app

RATE_HZ = 16_000


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("EARMARK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def scan(bundle):
    """Run `earmark edge scan` with the tone bundle; what comes back has exit_code, stdout and stderr."""

    def run(*arguments, **environment):
        given = [] if "--bundle" in arguments else ["--bundle", bundle]
        result = CliRunner().invoke(app, ["scan", *map(str, (*arguments, *given))], env=environment)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run


def objects(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def of_type(result, kind):
    return [entry for entry in objects(result) if entry["type"] == kind]


@pytest.fixture
def evening(tmp_path, play):
    """Talk, a scream, talk, crying: 20 s, of which 4 are sensitive."""
    path = tmp_path / "evening.wav"
    sound = play(("speech", 5), ("scream", 1.5), ("speech", 6), ("cry", 2.5), ("speech", 5))
    soundfile.write(path, sound, RATE_HZ, subtype="PCM_16")
    return path


@pytest.fixture
def quiet(tmp_path, play):
    path = tmp_path / "quiet.wav"
    soundfile.write(path, play(("speech", 4), ("laughter", 2)), RATE_HZ, subtype="PCM_16")
    return path
