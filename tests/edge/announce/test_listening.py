"""`earmark edge listen` with a broker set, as it is started in a home; and what the household reads of it afterwards."""

import json

import numpy as np
from tests.edge.announce.conftest import PASSWORD, USER
from tests.edge.device import consented
from tests.edge.listen.test_process import RATE_HZ, Process
from typer.testing import CliRunner

from earmark_edge.cli import app
from earmark_edge.outbox import wav_bytes


def test_a_scream_reaches_the_households_broker_without_a_score_and_stands_in_the_ledger(bundle, tmp_path, play, broker, subscriber):
    state = tmp_path / "state"
    consented(state)
    recording, password = tmp_path / "evening.wav", state / "mqtt-password"
    recording.write_bytes(wav_bytes(play(("", 1), ("scream", 2), ("", 60)) + np.float32(1e-4), RATE_HZ))
    password.touch(0o600)
    password.write_text(PASSWORD)
    told = {"EARMARK_MQTT_URL": f"mqtts://127.0.0.1:{broker.port}", "EARMARK_MQTT_USER": USER, "EARMARK_MQTT_PASSWORD_FILE": str(password)}
    told["EARMARK_MQTT_CA_FILE"] = str(broker.folder / "ca.pem")
    with subscriber() as heard:
        running = Process(f"hall={recording}", "--bundle", str(bundle), home=tmp_path, EARMARK_CANARY_S="0", **told)
        try:
            event = running.wait_for(lambda line: line["type"] == "event", seconds=60)
            running.wait_for(lambda _: any(topic == "earmark/earmark/event" for topic, *_ in heard), seconds=60)
        finally:
            assert running.end(seconds=60) == 0, running.errors
    (words,) = [json.loads(words) for topic, words, _ in heard if topic == "earmark/earmark/event"]
    assert (words["label"], words["stream"], words["count"]) == ("scream", "hall", 1)
    assert str(event["peak_score"])[:5] not in "".join(content for _, content, _ in heard)
    assert running.status["delivery"]["announced"] == 1

    shown = CliRunner().invoke(app, ["ledger", "--offline", "--state", str(state)])
    assert shown.exit_code == 0, shown.output
    assert f"for your own mqtt at mqtts://127.0.0.1:{broker.port} (told on" in shown.stdout
    assert "no sound and no score" in shown.stdout
    (line,) = CliRunner().invoke(app, ["ledger", "--offline", "--json", "--state", str(state)]).stdout.splitlines()
    assert (json.loads(line)["told"], json.loads(line)["state"]) == ("mqtt", "sent")
