"""What comes out is what `train.py` takes, and nothing that nobody consented to."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
import soundfile
from tests.review.sendings import tone_bytes
from typer.testing import CliRunner

from earmark_data.manifest import read_manifest
from earmark_review.cases import Verdict
from earmark_review.cli import app
from earmark_review.errors import KeyGoneError, SettingsError, UnknownEventError
from earmark_review.export import Exported, export
from earmark_review.store.caseload import case_file
from earmark_review.store.golden import add_golden


@pytest.fixture
def decided(house, ada, make_sending):
    """Case ids by event of two devices, the first of which consents: a case for each verdict, and one with a corrected span."""
    found = {}
    for device in ("kitchen", "porch"):
        sender = house.device(device)
        house.consent(device, may_train=device == "kitchen")
        for verdict in ("distress", "play", "media", "other_sound"):
            event_id = f"{device}-{verdict}"
            sender.send(make_sending(event_id, "cry", masked=True, device=device))
            [case_id] = ada.case_ids()
            ada.claim(case_id)
            span = {"onset": "0.3", "offset": "0.5", "start": "10"} if verdict == "play" else {}
            ada.act(case_id, "verdict", ada.lease_of(case_id), verdict=verdict, note="a private thought", **span)
            found[event_id] = case_id
    return found


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_manifest_is_one_that_training_reads(house, decided, tmp_path, caplog):
    assert export(house.service, tmp_path / "out") == Exported(rows=8, labels=8, clips=4, missing=0)
    manifest = read_manifest(tmp_path / "out" / "manifest.csv")
    assert "4 of 8 rows are labels without sound, since nobody consented to training with it; they are left out" in caplog.text
    assert {row.original_label: row.label for row in manifest} == {
        "distress": "cry",
        "play": "cry",
        "media": "background",
        "other_sound": "background",
    }
    assert len({row.group for row in manifest}) == len({row.split for row in manifest}) == 1
    assert len({(row.consent, row.consent_version) for row in manifest}) == 1
    assert manifest.rows[0].consent in (tmp_path / "out" / "CARD.md").read_text()
    given, _ = soundfile.read(manifest.rows[0].path)
    assert abs(np.argmax(np.abs(np.fft.rfft(given))) - 1000) <= 1  # the original's tone


def test_spans_are_strong_labels_in_the_clips_own_time(house, decided, tmp_path):
    export(house.service, tmp_path / "out")
    spans = {row.original_label: row.span_s for row in read_manifest(tmp_path / "out" / "manifest.csv")}
    assert spans["play"] == pytest.approx((0.3, 0.5))
    assert spans["distress"] == pytest.approx((0.2, 0.6))


def test_without_consent_there_are_labels_and_no_sound_and_no_names_at_all(house, decided, tmp_path):
    export(house.service, tmp_path / "out")
    table = rows_of(tmp_path / "out" / "verdicts.csv")
    assert {row["case"] for row in table} == set(decided.values())
    assert len(list((tmp_path / "out" / "audio").iterdir())) == 4
    for path in (tmp_path / "out").glob("*.csv"):
        for name in ("ada", "kitchen", "porch", "private", "consent-1"):
            assert not re.search(rf"\b{name}\b", path.read_text())


def test_a_new_version_of_a_record_has_another_name_and_the_record_keeps_its_own(house, decided, tmp_path):
    export(house.service, tmp_path / "first")
    house.consent(may_train=True, given_at="2026-01-02T00:00:00+00:00")
    export(house.service, tmp_path / "second")
    first, second = (read_manifest(tmp_path / name / "manifest.csv").rows[0] for name in ("first", "second"))
    assert (first.consent, first.group) == (second.consent, second.group)
    assert first.consent_version != second.consent_version


def test_the_log_has_the_export_before_a_clip_is_opened(house, decided, tmp_path, monkeypatch):
    seen, find = [], house.service.keys.find
    monkeypatch.setattr(type(house.service.keys), "find", lambda _self, *words: (seen.append(house.actions()[-1]), find(*words))[1])
    export(house.service, tmp_path / "out")
    assert seen
    assert set(seen) == {"export.made"}


@pytest.mark.parametrize(
    "change", [{"may_train": False}, {"withdrawn_at": "2026-02-01T00:00:00+00:00"}, {"expires_at": "2026-02-01T00:00:00+00:00"}]
)
def test_a_withdrawal_ends_what_was_kept(house, decided, tmp_path, change):
    case_id = decided["kitchen-distress"]
    with house.service.database.reading() as conn:
        file = case_file(conn, case_id, house.clock())
    assert house.service.decryptor.open_consented(file, file.object_at(3)) == tone_bytes()
    with house.service.database.writing() as conn:
        add_golden(conn, decided["kitchen-play"], Verdict.PLAY, house.clock())
    house.consent(**{"may_train": True, **change})
    with pytest.raises(KeyGoneError):
        house.service.decryptor.open_consented(file, file.object_at(3))
    assert house.service.shred_due() == 4
    assert house.service.blobs.list_keys() == []
    assert export(house.service, tmp_path / "out").clips == 0


def test_an_export_writes_into_a_new_folder_alone(house, tmp_path):
    with pytest.raises(SettingsError, match="new folder"):
        export(house.service, tmp_path) and export(house.service, tmp_path)


def test_the_command_says_what_it_wrote(house, decided, tmp_path):
    words = ["export", "--out", str(tmp_path / "out"), "--data", str(house.data), "--json"]
    answer = CliRunner().invoke(app, words, env=house.environ)
    assert json.loads(answer.stdout) == {"rows": 8, "labels": 8, "clips": 4, "missing": 0}


def test_a_household_is_erased_whole_and_stays_so(house, decided, make_sending):
    assert house.service.erase_household("consent-1") == 8
    with house.service.database.reading() as conn:
        for table in ("events", "cases", "verdicts", "leases", "objects"):
            assert conn.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() == 0
    assert house.service.blobs.list_keys() == []
    marks = (b"a private thought", b'"consent-1"')
    kept = [path for path in house.data.rglob("*") if path.is_file() and path.name != "wrapped.db"]
    assert kept
    assert [path.name for path in kept if marks[0] in path.read_bytes()] == []
    with pytest.raises(UnknownEventError):
        house.service.erase_household("consent-1")
