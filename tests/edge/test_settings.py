from dataclasses import fields
from pathlib import Path

import pytest

from earmark_edge import settings as settings_module
from earmark_edge.decide import DecideConfig
from earmark_edge.settings import EdgeSettings, SettingsError, bundle_to_run, default_bundle, named_bundle


def test_an_empty_environment_gives_the_defaults():
    settings = EdgeSettings.from_environment({"PATH": "/bin", "HOME": "/home/ada", "EARMARK_BUNDLE": "", "EARMARK_THREADS": ""})
    assert settings == EdgeSettings(state=Path("/home/ada/.local/state/earmark"))


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"EARMARK_STATE": "/s", "STATE_DIRECTORY": "/var/lib/earmark", "XDG_STATE_HOME": "/x"}, "/s"),
        ({"STATE_DIRECTORY": "/var/lib/earmark:/other", "XDG_STATE_HOME": "/x"}, "/var/lib/earmark"),
        ({"XDG_STATE_HOME": "/x", "HOME": "/home/ada"}, "/x/earmark"),
    ],
)
def test_the_state_folder_is_the_given_one_then_systemds_then_the_users(environ, expected):
    assert EdgeSettings.from_environment(environ).state == Path(expected)


def test_every_variable_reaches_its_setting():
    settings = EdgeSettings.from_environment(
        {"EARMARK_BUNDLE": "/b", "EARMARK_THREADS": "3", "EARMARK_STATE": "/s", "EARMARK_OUTBOX_BYTES": "2000000"}
    )
    assert (settings.bundle, settings.threads, settings.state, settings.outbox_bytes) == (Path("/b"), 3, Path("/s"), 2_000_000)


GIVEN = {
    "hysteresis_ratio": ("0.7", 0.7),
    "margin_s": ("0.3", 0.3),
    "min_event_s": ("2", 2.0),
    "max_event_s": ("30", 30.0),
    "merge_gap_s": ("4", 4.0),
    "speech_cut_s": ("0.25", 0.25),
    "route_also": ("shout, laughter", ("shout", "laughter")),
}


@pytest.mark.parametrize("name", [field.name for field in fields(DecideConfig)])
def test_every_knob_of_deciding_can_be_set_and_alone(name):
    text, value = GIVEN[name]
    decide = EdgeSettings.from_environment({f"EARMARK_{name.upper()}": text}).decide
    assert decide == DecideConfig(**{name: value})
    assert decide != DecideConfig()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("EARMARK_THREADS", "0"),
        ("EARMARK_THREADS", "many"),
        ("EARMARK_THREADS", "99999"),
        ("EARMARK_OUTBOX_BYTES", "1 GB"),
        ("EARMARK_OUTBOX_BYTES", "1000"),
        ("EARMARK_MARGIN_S", "wide"),
        ("EARMARK_MARGIN_S", "nan"),
        ("EARMARK_MARGIN_S", "-1"),
        ("EARMARK_HYSTERESIS_RATIO", "2"),
    ],
)
def test_a_variable_of_another_form_is_an_error_that_names_it(name, text):
    with pytest.raises(SettingsError) as error:
        EdgeSettings.from_environment({name: text})
    assert name.removeprefix("EARMARK_").lower() in str(error.value).lower()


def test_the_installed_bundle_comes_before_the_source_tree(tmp_path, monkeypatch):
    package = tmp_path / "infer" / "earmark_edge"
    package.mkdir(parents=True)
    monkeypatch.setattr(settings_module, "__file__", str(package / "settings.py"))
    assert default_bundle() == tmp_path / "model" / "bundles" / "earmark"
    (package / "bundles" / "earmark").mkdir(parents=True)
    assert default_bundle() == package / "bundles" / "earmark"


def test_a_bundle_that_ships_is_named_without_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ships = default_bundle().parent
    assert named_bundle(Path("earmark-small")) == ships / "earmark-small"
    assert bundle_to_run(Path("earmark-small"), tmp_path) == (ships / "earmark-small", 0)
    for other in (Path("nothing"), Path("bundles/earmark-small"), tmp_path / "earmark-small", Path("..")):
        assert named_bundle(other) == other
    Path("earmark-small").mkdir()
    assert named_bundle(Path("earmark-small")) == Path("earmark-small"), "a folder that is there comes first"
