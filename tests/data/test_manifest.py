from __future__ import annotations

from pathlib import Path

import pytest
from tests.data.corpora import COLUMNS, row, write_corpus, write_rows

from earmark_data.manifest import ManifestError, read_manifest
from earmark_model.consents import Mark, mark


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(b"RIFF")
    return tmp_path


def test_rows_come_in_file_order_with_paths_beside_the_manifest(folder: Path) -> None:
    manifest = read_manifest(write_rows(folder, [row("b.wav", label="cry"), row("a.wav", label="speech")]))
    assert [(each.index, each.path, each.label) for each in manifest] == [(0, folder / "b.wav", "cry"), (1, folder / "a.wav", "speech")]


@pytest.mark.parametrize(
    ("second", "cause"),
    [
        ({"label": "yodel"}, "unknown label 'yodel'"),
        ({"label": ""}, "unknown label ''"),
        ({"split": "dev"}, "unknown split 'dev'"),
        ({"path": "c.wav"}, "no such file"),
        ({"path": ""}, "no such file"),
        ({"path": "a.wav", "group": "g-a.wav"}, "path a.wav already stands in line 2"),
        ({"group": "g-a.wav", "split": "test"}, "group 'g-a.wav' is in split 'test' here and in 'train' in line 2"),
        ({"group": ""}, "the group is empty"),
        ({"duration_s": "-1"}, "duration_s must be a positive number"),
        ({"duration_s": "nan"}, "duration_s must be a positive number"),
        ({"duration_s": "long"}, "duration_s must be a positive number"),
    ],
)
def test_a_bad_row_is_named_by_its_line_and_cause(folder: Path, second: dict[str, str], cause: str) -> None:
    path = write_rows(folder, [row("a.wav"), row("b.wav") | second])
    with pytest.raises(ManifestError, match=f"manifest.csv, line 3: .*{cause}"):
        read_manifest(path)


def test_a_row_with_too_few_fields_is_named(folder: Path) -> None:
    path = write_rows(folder, [row("a.wav")])
    path.write_text(path.read_text() + "b.wav,scream\n")
    with pytest.raises(ManifestError, match="line 3: another number of fields"):
        read_manifest(path)


@pytest.mark.parametrize("missing", ["path", "label", "split", "source", "group", "duration_s"])
def test_a_missing_column_is_named(folder: Path, missing: str) -> None:
    path = write_rows(folder, [row("a.wav")], tuple(column for column in COLUMNS if column != missing))
    with pytest.raises(ManifestError, match=f"column {missing} is missing"):
        read_manifest(path)


@pytest.mark.parametrize("content", [b"", b"path,label,split,source,group,duration_s\n", b"\xff\xfe\x00\x01"])
def test_an_empty_or_unreadable_manifest_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "manifest.csv"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=r"manifest\.csv"):
        read_manifest(path)
    with pytest.raises(ManifestError, match=r"none\.csv"):
        read_manifest(tmp_path / "none.csv")


def test_selections_are_by_split_licence_and_source(tmp_path: Path) -> None:
    manifest = read_manifest(write_corpus(tmp_path))
    chosen = manifest.select(splits=["train"], licence_tiers=["open"], leave_out=["s1"])
    assert len(chosen) == 14
    assert {(each.split, each.licence_tier, each.source) for each in chosen} == {("train", "open", "s0")}
    assert {each.source for each in manifest.select(only=["s1"])} == {"s1"}
    with pytest.raises(ManifestError, match="no source named s7; there are s0, s1"):
        manifest.select(leave_out=["s7"])
    told = "no row is left of split train and licence tier secret, without source s1; there are splits test, train, val and licence tiers"
    with pytest.raises(ManifestError, match=told):
        manifest.select(splits=["train"], licence_tiers=["secret"], leave_out=["s1"])


def test_a_marked_span_is_read_and_one_outside_its_clip_is_named(folder: Path) -> None:
    columns = (*COLUMNS, "onset_s", "offset_s")
    read = read_manifest(write_rows(folder, [row("a.wav", onset_s="0.25", offset_s="1.0"), row("b.wav")], columns))
    assert [each.span_s for each in read] == [(0.25, 1.0), None]
    for onset, offset in (("0.5", "1.2"), ("0.5", "0.5"), ("-0.1", "0.5"), ("", "0.5"), ("here", "there")):
        path = write_rows(folder, [row("a.wav", onset_s=onset, offset_s=offset)], columns)
        with pytest.raises(ManifestError, match=r"manifest\.csv, line 2: onset_s and offset_s must be a span within the clip's 1 s"):
            read_manifest(path)


def test_labels_without_sound_are_left_out_and_told_where_consent_is_kept_and_an_error_elsewhere(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [row("", group="g"), row("a.wav", consent="c", consent_version="v")]
    with pytest.raises(ManifestError, match="line 2: no such file"):
        read_manifest(write_rows(folder, rows))
    read = read_manifest(write_rows(folder, rows, (*COLUMNS, "consent", "consent_version")))
    assert [(each.index, each.consent) for each in read] == [(1, "c")]
    assert "1 of 2 rows are labels without sound" in caplog.text
    with pytest.raises(ManifestError, match=r"1 of 1 rows are labels without sound, since nobody consented .*; there is nothing to train"):
        read_manifest(write_rows(folder, rows[:1], (*COLUMNS, "consent")))


def test_a_withdrawal_beside_a_manifest_refuses_it_and_so_does_a_damaged_one(folder: Path) -> None:
    path = write_rows(folder, [row("a.wav")])
    mark(folder, [Mark("2026-03-01T00:00:00+00:00", "home", "case", "consent withdrawn")])
    with pytest.raises(ManifestError, match=r"1 of its rows were withdrawn .*2026-03-01.*earmark review export"):
        read_manifest(path)
    (folder / "withdrawn.json").write_text("{")
    with pytest.raises(ManifestError, match="not a readable mark of withdrawal"):
        read_manifest(path)
