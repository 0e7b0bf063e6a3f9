from pathlib import Path

import pytest
from tests.edge.announce.conftest import PASSWORD, USER
from tests.edge.review_double import Answer, serving

from earmark_edge.announce.settings import AnnounceSettings, MqttSettings
from earmark_edge.doctor.announcing import check_announcing
from earmark_edge.doctor.check import Verdict
from earmark_edge.settings import SettingsError

NAMES = ("MQTT_URL", "MQTT_USER", "MQTT_PASSWORD_FILE", "MQTT_CA_FILE", "MQTT_NAME", "MQTT_PREFIX", "WEBHOOK_URL", "WEBHOOK_SECRET_FILE")


@pytest.fixture
def secret(tmp_path):
    def write(text, mode=0o600, name="secret"):
        path = tmp_path / name
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    return write


def read(**given):
    return AnnounceSettings.from_environment({f"EARMARK_{name}": text for name, text in given.items()})


def test_where_nothing_is_set_nobody_is_told():
    assert read() == AnnounceSettings(None, None)
    assert read(MQTT_URL="", WEBHOOK_URL="") == AnnounceSettings(None, None)


def test_every_setting_reaches_what_it_turns(secret, tmp_path):
    words = {"MQTT_USER": "ada", "MQTT_PASSWORD_FILE": secret("hidden\n"), "MQTT_CA_FILE": str(tmp_path / "ca"), "MQTT_NAME": "hall"}
    told = read(MQTT_URL="mqtts://broker.local:8884", MQTT_PREFIX="ha/found", **words).mqtt
    assert told == MqttSettings("broker.local", 8884, True, "hall", "ha/found", "ada", "hidden", tmp_path / "ca")  # noqa: FBT003 - in order
    assert (read(MQTT_URL="mqtt://127.0.0.1").mqtt.port, read(MQTT_URL="mqtts://b").mqtt.port) == (1883, 8883)
    hook = read(WEBHOOK_URL="https://home.example/hook/abc", WEBHOOK_SECRET_FILE=secret("s" * 24)).webhook
    assert (hook.url, hook.secret) == ("https://home.example/hook/abc", "s" * 24)
    for shown in (repr(told), repr(hook), told.address, hook.address):
        assert "hidden" not in shown
        assert "s" * 24 not in shown
    assert "abc" not in hook.address, "paths of webhooks are secrets"


@pytest.mark.parametrize(
    ("name", "given"),
    [
        *(("MQTT_URL", {"MQTT_URL": url}) for url in ("broker", "http://b", "mqtts://", "mqtts://b:0", "mqtts://b:x", "mqtts://b/topic")),
        ("MQTT_URL", {"MQTT_URL": "mqtt://192.0.2.1"}),
        ("MQTT_URL", {"MQTT_URL": "mqtts://ada:secret@b"}),
        ("MQTT_NAME", {"MQTT_URL": "mqtts://b", "MQTT_NAME": "a/b"}),
        ("MQTT_NAME", {"MQTT_URL": "mqtts://b", "MQTT_NAME": "#"}),
        ("MQTT_PREFIX", {"MQTT_URL": "mqtts://b", "MQTT_PREFIX": "+/x"}),
        ("MQTT_PASSWORD_FILE", {"MQTT_URL": "mqtts://b", "MQTT_USER": "ada", "MQTT_PASSWORD_FILE": "/nowhere"}),
        *(("WEBHOOK_URL", {"WEBHOOK_URL": url}) for url in ("ftp://b", "http://192.0.2.1/x", "https://", "https://ada:secret@b")),
        ("WEBHOOK_SECRET_FILE", {"WEBHOOK_URL": "https://b"}),
    ],
)
def test_what_cannot_be_used_is_refused_by_name_and_without_its_secrets(name, given):
    with pytest.raises(SettingsError, match=f"EARMARK_{name}") as told:
        read(**given)
    assert "ada:secret" not in str(told.value)


def test_a_secret_that_others_may_read_or_that_is_none_is_refused(secret):
    for path in (secret("s" * 24, 0o644), secret("short", name="b"), secret("two\nlines" * 9, name="c")):
        with pytest.raises(SettingsError, match="EARMARK_WEBHOOK_SECRET_FILE"):
            read(WEBHOOK_URL="https://b", WEBHOOK_SECRET_FILE=path)
    with pytest.raises(SettingsError, match="needs EARMARK_MQTT_USER"):
        read(MQTT_URL="mqtts://b", MQTT_PASSWORD_FILE=secret("p"))


def test_the_owners_page_names_every_setting():
    page = (Path(__file__).resolve().parents[3] / "docs" / "device.md").read_text()
    for name in NAMES:
        assert f"`EARMARK_{name}`" in page


def verdicts(**given):
    return [(check.name, check.verdict) for check in check_announcing({f"EARMARK_{name}": text for name, text in given.items()})]


def test_the_doctor_says_nothing_of_what_is_not_set_and_tells_what_is_set_wrongly():
    assert verdicts() == []
    assert verdicts(MQTT_URL="mqtt://192.0.2.1") == [("announcing", Verdict.FAIL)]


def test_the_doctor_knows_a_broker_that_lets_it_in_from_one_that_does_not(broker, secret):
    words = {"MQTT_URL": f"mqtts://127.0.0.1:{broker.port}", "MQTT_CA_FILE": str(broker.folder / "ca.pem"), "MQTT_USER": USER}
    assert verdicts(**words, MQTT_PASSWORD_FILE=secret(PASSWORD)) == [("mqtt", Verdict.OK)]
    assert verdicts(**words, MQTT_PASSWORD_FILE=secret("wrong", name="b")) == [("mqtt", Verdict.FAIL)]
    assert verdicts(**words | {"MQTT_CA_FILE": "/nowhere"}, MQTT_PASSWORD_FILE=secret(PASSWORD)) == [("mqtt", Verdict.FAIL)]


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(200, Verdict.OK), (405, Verdict.OK), (301, Verdict.FAIL), (404, Verdict.WARN), (503, Verdict.WARN)],
)
def test_the_doctor_asks_a_webhook_without_telling_it_of_an_event(secret, status, verdict):
    with serving() as house:
        house.work = lambda _request: Answer(status)
        assert verdicts(WEBHOOK_URL=house.url, WEBHOOK_SECRET_FILE=secret("s" * 24)) == [("webhook", verdict)]
    assert [(request.method, request.body) for request in house.heard] == [("HEAD", b"")]
    assert verdicts(WEBHOOK_URL=house.url, WEBHOOK_SECRET_FILE=secret("s" * 24)) == [("webhook", Verdict.FAIL)]


def test_a_broker_of_this_machine_needs_neither_tls_nor_a_password(open_broker):
    assert verdicts(MQTT_URL=f"mqtt://127.0.0.1:{open_broker.port}") == [("mqtt", Verdict.OK)]
