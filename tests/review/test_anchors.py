from __future__ import annotations

import json

import pytest
from bench.tampering import trial
from typer.testing import CliRunner

from earmark_review.anchors import faults, head_of, parse_head, read_anchor
from earmark_review.cli import app
from earmark_review.errors import AnchorError
from earmark_review.identity import ServiceIdentity


@pytest.fixture
def anchor(house, one_case, tmp_path):
    path = tmp_path / "anchor.jsonl"
    assert house.service.anchor(path)
    return path


def verify(house, *anchors):
    words = ["audit", "verify", "--data", str(house.data), *(word for path in anchors for word in ("--anchor", str(path)))]
    return CliRunner().invoke(app, words)


def spoil(house, *statements):
    """As someone with the file in their hands can."""
    with house.service.database.writing() as conn:
        for (name,) in conn.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").all():
            conn.exec_driver_sql(f"DROP TRIGGER {name}")
        for statement in statements:
            conn.exec_driver_sql(statement)


def test_random_tampering_of_every_kind_is_found():
    tried, found = trial(400, seed=1)
    assert len(tried) == 5
    assert tried == found


def test_a_whole_log_is_confirmed(house, anchor):
    answer = verify(house, anchor)
    assert (answer.exit_code, "the log holds, with 1 signed heads" in answer.output) == (0, True)
    assert "cut off" in verify(house).output  # says what it cannot tell without an anchor


def test_a_log_cut_off_at_its_end_is_found_with_an_anchor_and_only_then(house, anchor):
    with house.service.database.reading() as conn:
        heads = read_anchor(anchor, house.service.identity.signing_public)
        assert faults(conn, heads) == []
    spoil(house, f"DELETE FROM audit_log WHERE seq >= {heads[0].seq}")
    assert any("cut off" in fault for fault in verify(house, anchor).output.splitlines())
    assert verify(house, anchor).exit_code == 1


def test_missing_guards_are_told(house, anchor):
    spoil(house)
    assert verify(house, anchor).output.count("is missing from the database") == 3


def test_an_entry_that_cannot_be_read_is_a_fault_and_no_crash(house, anchor):
    spoil(house, "UPDATE audit_log SET detail = '{' WHERE seq = 2")
    assert "cannot be read" in verify(house, anchor).output


def test_a_head_is_believed_with_this_services_signature_alone(house, anchor):
    line = anchor.read_text()
    key = house.service.identity.signing_public
    assert parse_head(line, key).seq == json.loads(line)["seq"]
    changed = json.dumps({**json.loads(line), "seq": 1})
    with house.service.database.reading() as conn:
        foreign = head_of(conn, house.clock()).signed(ServiceIdentity(bytes(32), bytes(range(32))))
    for forged in (changed, foreign, "{}", "[]", "not json", '{"signature": "AAAA"}', '{"signature": 5}'):
        with pytest.raises(AnchorError):
            parse_head(forged, key)
    anchor.write_text(changed)
    assert verify(house, anchor).exit_code == 1


def test_anchors_grow_with_the_log_and_not_without(house, sender, anchor, make_sending):
    assert not house.service.anchor(anchor)
    sender.send(make_sending("event-2"))
    assert house.service.anchor(anchor)
    assert len(anchor.read_text().splitlines()) == 2
    assert "with 2 signed heads" in verify(house, anchor).output


def test_an_anchor_that_is_no_file_is_told(house, tmp_path):
    (tmp_path / "empty").touch()
    for path in (tmp_path / "nowhere", tmp_path / "empty", tmp_path):
        answer = verify(house, path)
        assert answer.exit_code == 1
        assert "anchor" in answer.output


def test_the_running_service_anchors_where_the_setting_says(open_house, tmp_path):
    house = open_house(audit_anchor=tmp_path / "heads.jsonl")
    house.user("ada")
    house.service.keep_house()
    assert "with 1 signed heads" in verify(house, tmp_path / "heads.jsonl").output


def test_the_head_can_be_printed_to_be_kept_elsewhere(house, one_case, tmp_path):
    printed = CliRunner().invoke(app, ["audit", "head", "--data", str(house.data)])
    (tmp_path / "mailed").write_text(printed.output)
    assert verify(house, tmp_path / "mailed").exit_code == 0
