import re
from dataclasses import fields
from pathlib import Path

import pytest

from earmark_edge.decide import DecideConfig
from earmark_edge.listen.misspelt import misspelt
from earmark_edge.listen.settings import ListenSettings
from earmark_edge.settings import SettingsError

ROOT = Path(__file__).resolve().parents[3]
GIVEN = {
    "stall_s": ("2.5", 2.5),
    "silent_s": ("90", 90.0),
    "canary_s": ("0", 0.0),
    "audio_s_per_hour": ("60", 60.0),
    "status_s": ("1", 1.0),
    "metrics_port": ("9100", 9_100),
    "mute_gpio": ("17", 17),
    "updates": ("0", 0),
    "trial_canaries": ("5", 5),
    "trial_canary_s": ("60", 60.0),
}


@pytest.mark.parametrize("name", [entry.name for entry in fields(ListenSettings)])
def test_every_setting_is_read_from_its_variable(name):
    text, value = GIVEN[name]
    assert getattr(ListenSettings.from_environment({f"EARMARK_{name.upper()}": text}), name) == value
    assert getattr(ListenSettings.from_environment({f"EARMARK_{name.upper()}": ""}), name) != value or name == "canary_s"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("stall_s", "soon"),
        ("stall_s", "nan"),
        ("silent_s", "0"),
        ("canary_s", "5"),
        ("canary_s", "-1"),
        ("audio_s_per_hour", "0"),
        ("status_s", "31"),
        ("metrics_port", "80.5"),
        ("metrics_port", "70000"),
        ("mute_gpio", "GPIO17"),
        ("updates", "yes"),
        ("trial_canaries", "0"),
        ("trial_canary_s", "9"),
    ],
)
def test_a_setting_of_another_form_is_refused_by_name(name, text):
    with pytest.raises(SettingsError, match=f"EARMARK_{name.upper()}"):
        ListenSettings.from_environment({f"EARMARK_{name.upper()}": text})


def test_the_owners_page_names_every_setting():
    page = (Path(__file__).resolve().parents[3] / "docs" / "device.md").read_text()
    named = [entry.name for entry in (*fields(ListenSettings), *fields(DecideConfig))]
    assert len(named) > 10
    for name in named:
        assert f"`EARMARK_{name.upper()}`" in page


def test_a_setting_that_is_misspelt_is_told_with_the_one_that_is_meant():
    assert misspelt({"EARMARK_MUTE_GIPO": "17", "HOME": "/"}) == [
        "EARMARK_MUTE_GIPO is no setting and does nothing; is EARMARK_MUTE_GPIO meant?"
    ]
    assert misspelt({"EARMARK_BANANA": "1"})[0].startswith("EARMARK_BANANA is no setting and does nothing")


def test_every_setting_that_the_pages_name_is_known():
    pages = (ROOT / "docs" / "device.md").read_text() + (ROOT / "docs" / "install-raspberry-pi.md").read_text()
    named = set(re.findall(r"EARMARK_[A-Z_]*[A-Z]", pages))
    assert len(named) > 20
    assert misspelt(dict.fromkeys(named, "1")) == []
