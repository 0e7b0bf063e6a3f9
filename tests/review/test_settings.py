from __future__ import annotations

from pathlib import Path

import pytest

from earmark_review.errors import SettingsError
from earmark_review.settings import ReviewSettings, read_settings


def test_settings_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("EARMARK_REVIEW_PORT", "9001")
    monkeypatch.setenv("EARMARK_REVIEW_DATA", "/srv/earmark")
    settings = read_settings()
    assert (settings.port, settings.data) == (9001, Path("/srv/earmark"))


def test_the_command_line_wins_over_the_environment_and_none_does_not(monkeypatch):
    monkeypatch.setenv("EARMARK_REVIEW_PORT", "9001")
    assert read_settings(port=9002).port == 9002
    assert read_settings(port=None).port == 9001


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "70000"),
        ("CLIP_BYTES_CAP", "0"),
        ("CLIP_SECONDS_CAP", "-1"),
        ("FORM_BYTES_CAP", "10"),
        ("NOTE_CHARS_CAP", "0"),
        ("LEASE_S", "0"),
        ("LEASES_PER_REVIEWER", "0"),
        ("SESSION_IDLE_S", "nonsense"),
        ("SIGN_IN_FAILURES", "0"),
        ("SIGN_IN_WINDOW_S", "0"),
        ("STARTING_VOLUME", "1.1"),
        ("BLOBS", "s3:/no-bucket"),
    ],
)
def test_a_value_outside_its_range_names_its_variable(monkeypatch, name, value):
    monkeypatch.setenv(f"EARMARK_REVIEW_{name}", value)
    with pytest.raises(SettingsError, match=f"EARMARK_REVIEW_{name}.*{value}"):
        read_settings()


def test_a_lease_limit_below_the_lease_is_refused():
    with pytest.raises(SettingsError, match="lease_limit_s"):
        read_settings(lease_s=600, lease_limit_s=300)


def test_a_session_shorter_than_its_idle_time_is_refused():
    with pytest.raises(SettingsError, match="session_s"):
        read_settings(session_s=60, session_idle_s=61)


def test_settings_do_not_change_once_read():
    with pytest.raises(ValueError, match="frozen"):
        ReviewSettings().port = 1
