"""Whose consent a corpus and a model rest on, and what a withdrawal leaves beside them."""

from __future__ import annotations

import json
import logging

import pytest

from earmark_model.consents import ConsentUsed, Mark, MarkError, mark, note_user, read_marks, recorded, users_of, withdraw

ONE = Mark("2026-03-01T00:00:00+00:00", "home-a", "case-1", "consent withdrawn")
TWO = Mark("2026-02-01T00:00:00+00:00", "home-b", "case-2", "deleted")


def model(folder, *consents, name="config.json"):
    folder.mkdir()
    listed = [{"consent": consent, "version": "v", "clips": 2} for consent in consents]
    (folder / name).write_text(json.dumps({"consents": listed} if name == "config.json" else {"provenance": {"consents": listed}}))
    return folder


def test_marks_add_up_oldest_first_and_none_is_written_twice(tmp_path):
    assert read_marks(tmp_path) == ()
    assert mark(tmp_path, [ONE])
    assert mark(tmp_path, [ONE, TWO])
    assert read_marks(tmp_path) == (TWO, ONE)
    assert not mark(tmp_path, [ONE, TWO])
    assert [path.name for path in tmp_path.iterdir()] == ["withdrawn.json"]


@pytest.mark.parametrize("content", ["", "[]", '{"schema": 2, "withdrawn": []}', '{"schema": 1, "withdrawn": [{"at": "now"}]}'])
def test_a_damaged_mark_is_an_error_and_never_no_mark(tmp_path, content):
    (tmp_path / "withdrawn.json").write_text(content)
    for read in (read_marks, lambda folder: mark(folder, [ONE])):
        with pytest.raises(MarkError, match=r"withdrawn\.json: not a readable mark"):
            read(tmp_path)


def test_runs_and_bundles_are_marked_where_they_rest_on_the_record(tmp_path):
    concerned = [model(tmp_path / "run", "home-a", "home-c"), model(tmp_path / "bundle", "home-a", name="bundle.json")]
    other = model(tmp_path / "other", "home-c")
    assert recorded(other) == [ConsentUsed("home-c", "v", 2)]
    assert [withdraw(folder, [ONE, TWO]) for folder in (*concerned, other)] == [1, 1, 0]
    assert [read_marks(folder) for folder in (*concerned, other)] == [(ONE,), (ONE,), ()]
    with pytest.raises(MarkError, match=r"neither a run of train\.py nor a bundle"):
        withdraw(tmp_path, [ONE])


def test_whoever_uses_a_corpus_is_noted_once_and_a_corpus_that_cannot_be_written_is_told(tmp_path, caplog):
    assert users_of(tmp_path) == ()
    for _ in range(2):
        note_user(tmp_path, tmp_path / "run")
    assert list(users_of(tmp_path)) == [(tmp_path / "run").resolve()]
    with caplog.at_level(logging.WARNING):
        note_user(tmp_path / "none", tmp_path / "run")
    assert "a withdrawal will not find" in caplog.text
