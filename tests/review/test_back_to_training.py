"""The way back, whole: events in, verdicts, an export, `train.py` on it as it is, a bundle; and a withdrawal that reaches all of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests.review.sendings import track_for
from typer.testing import CliRunner

from earmark_cli.main import build
from earmark_cli.training import TrainingInputs, prepare
from earmark_data.manifest import ManifestError, read_manifest
from earmark_model.consents import read_marks
from earmark_model.processes import Processes
from earmark_model.train_config import TrainConfig
from earmark_review.cli import app
from earmark_review.export import export
from earmark_review.withdrawals import reach_exports

ROOT = Path(__file__).parents[2]
HOMES = 4
EARMARK = build("model")


def clip(path, hz):
    times = np.arange(32_000) / 16_000
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * hz * times), 16_000, format="FLAC", subtype="PCM_16")
    return path.read_bytes()


@pytest.fixture
def exported(house, ada, make_sending, tmp_path):
    """Homes that each sent a cry that is one and one that is not; all consent to training but the last."""
    scratch = tmp_path / "scratch.flac"
    for number in range(1, HOMES + 1):
        name = f"home{number}"
        sender = house.device(name)
        house.consent(name, f"consent-{name}", may_train=number < HOMES)
        for verdict, hz in (("distress", 1_200), ("other_sound", 100)):
            plain = {0: ("application/json", track_for("cry", 2.0).to_bytes()), 3: ("audio/flac", clip(scratch, hz))}
            sender.send(make_sending(f"{name}-{verdict}", "cry", device=name, plain=plain, consent_id=f"consent-{name}"))
            [case_id] = ada.case_ids()
            ada.decide(case_id, verdict)
    export(house.service, tmp_path / "export")
    return tmp_path / "export"


def train(corpus, out, *more):
    words = [sys.executable, str(ROOT / "train.py"), "--corpus", str(corpus), "--out", str(out), "--workers", "0", "--device", "cpu"]
    size = ["--size", "small", "--examples-per-epoch", "8", "--batch-size", "4", "--minutes", "0.02"]
    environ = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "400"}
    return subprocess.run([*words, *size, *more], env=environ, capture_output=True, text=True, timeout=200, check=False)


def test_verdicts_train_a_model_and_a_withdrawal_marks_the_manifest_the_run_and_the_bundle(house, exported, tmp_path):
    manifest = read_manifest(exported / "manifest.csv")
    assert {"train", "val"} <= {row.split for row in manifest}
    run, bundle = tmp_path / "runs" / "back", tmp_path / "bundle"
    done = train(exported, run)
    assert done.returncode == 0, done.stderr
    assert "2 of 8 rows are labels without sound" in " ".join(done.stderr.split())
    rests_on = json.loads((run / "config.json").read_text())["consents"]
    assert {one["consent"] for one in rests_on} == {row.consent for row in manifest if row.split != "test"}
    assert {one["clips"] for one in rests_on} == {2}
    made = CliRunner().invoke(EARMARK, ["model", "export", str(run), "--out", str(bundle)])
    assert made.exit_code == 0, made.output
    assert json.loads((bundle / "bundle.json").read_text())["provenance"]["consents"] == rests_on
    assert all(one["consent"] in (bundle / "CARD.md").read_text() for one in rests_on)

    house.consent("home1", "consent-home1", may_train=True, withdrawn_at="2026-03-01T00:00:00+00:00")
    house.service.keep_house()

    assert len(read_marks(exported)) == 2
    names = {one.consent for one in read_marks(exported)}
    assert [{one.consent for one in read_marks(folder)} for folder in (run, bundle)] == [names, names]
    assert not {one.case for one in read_marks(exported)} & {path.stem for path in (exported / "audio").iterdir()}
    assert house.actions()[-1] == "export.withdrawn"
    with pytest.raises(ManifestError, match="2 of its rows were withdrawn by their households or deleted, last on 2026-03-01"):
        prepare(TrainingInputs(exported, tmp_path / "runs" / "again"), TrainConfig(), Processes("cpu"), resume=False)
    again = CliRunner().invoke(EARMARK, ["model", "export", str(run), "--out", str(tmp_path / "other")])
    assert again.exit_code == 1
    assert "trained on clips to which consent was withdrawn (1 records, last on 2026-03-01" in again.stderr
    used = CliRunner().invoke(EARMARK, ["model", "evaluate", str(bundle), str(tmp_path / "none.csv")])
    assert used.stderr.startswith(f"warning: {bundle}: trained on clips to which consent was withdrawn")


def test_a_copy_of_a_model_is_marked_by_command(exported, tmp_path, house):
    [row, *_] = read_manifest(exported / "manifest.csv")
    copies = {}
    for name, consent in (("rests", row.consent), ("free", "another")):
        copies[name] = tmp_path / name
        copies[name].mkdir()
        (copies[name] / "config.json").write_text(json.dumps({"consents": [{"consent": consent, "version": "v", "clips": 1}]}))
    words = ["model", "withdraw", *map(str, copies.values()), "--mark", str(tmp_path / "marks")]
    assert CliRunner().invoke(EARMARK, words).exit_code == 2
    house.service.delete_event(*deleted_case(house, row.path.stem))
    assert CliRunner().invoke(app, ["withdrawals", "--data", str(house.data), "--out", str(tmp_path / "marks")]).exit_code == 0
    answer = CliRunner().invoke(EARMARK, words)
    assert answer.exit_code == 1
    assert [line.split(": ", 1)[1].split(":")[0] for line in answer.stdout.splitlines()] == ["marked", "not concerned"]
    assert [bool(read_marks(folder)) for folder in copies.values()] == [True, False]


def deleted_case(house, case_id):
    with house.service.database.reading() as conn:
        query = (
            "SELECT d.name, e.event_id FROM cases c JOIN events e USING (event_row) JOIN devices d USING (device_id) WHERE c.case_id = ?"
        )
        return conn.exec_driver_sql(query, (case_id,)).one()


def test_a_deletion_and_an_erasure_reach_the_export_and_expiry_does_not(house, exported):
    first = next(row for row in read_manifest(exported / "manifest.csv") if deleted_case(house, row.path.stem)[0] != "home2")
    house.clock.advance(400 * 86_400)  # every record has expired
    house.service.keep_house()
    assert read_marks(exported) == ()
    house.service.delete_event(*deleted_case(house, first.path.stem))
    assert [(one.case, one.why) for one in read_marks(exported)] == [(first.path.stem, "deleted")]
    house.service.erase_household("consent-home2")
    assert len(read_marks(exported)) == 3
    with pytest.raises(ManifestError, match=r"3 of its rows were withdrawn by their households or deleted"):
        read_manifest(exported / "manifest.csv")


def test_an_export_that_cannot_be_found_is_told_until_it_is(house, exported, tmp_path):
    elsewhere = exported.rename(tmp_path / "moved")
    house.service.erase_household("consent-home3")
    asked = ["withdrawals", "--data", str(house.data)]
    for _ in range(2):
        answer = CliRunner().invoke(app, asked)
        assert answer.exit_code == 1
        assert f"{exported}: not found" in answer.stderr
    elsewhere.rename(exported)
    assert CliRunner().invoke(app, asked).exit_code == 0
    assert len(read_marks(exported)) == 2
    assert reach_exports(house.service.database, house.service.identity, house.clock()).exports == []


def test_a_model_that_cannot_be_marked_is_told_and_the_export_is_marked_all_the_same(house, exported, tmp_path):
    (exported / "used-by.txt").write_text(f"{tmp_path / 'lost'}\n")
    house.service.erase_household("consent-home3")
    assert len(read_marks(exported)) == 2
