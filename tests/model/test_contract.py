from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from earmark_model.contract import LABELS, SENSITIVE, BundleError, BundleFileNotFoundError, BundleSpec, Guarantee, Threshold, read_bundle


def spec(**changes: Any) -> BundleSpec:
    values = {
        "labels": LABELS,
        "sensitive": SENSITIVE,
        "sample_rate_hz": 16_000,
        "window_samples": 32_000,
        "hop_samples": 8_000,
        "frame_hop_samples": 1_280,
        "thresholds": {label: Threshold(0.5) for label in LABELS},
        "graph_sha256": hashlib.sha256(b"graph").hexdigest(),
        "provenance": {"commit": "abc"},
    }
    return BundleSpec(**{**values, **changes})


def written(folder: Path, text: str, graph: bytes = b"graph") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "bundle.json").write_text(text)
    (folder / "model.onnx").write_bytes(graph)
    return folder


def test_a_bundle_survives_the_round_trip_with_its_guarantee(tmp_path: Path) -> None:
    thresholds = {label: Threshold(0.5) for label in LABELS} | {"scream": Threshold(0.2, Guarantee(0.05, 0.05, 93, 1, "c" * 64))}
    before = spec(thresholds=thresholds)
    assert read_bundle(written(tmp_path / "b", before.to_json())) == before
    assert before.unverified == ("cry", "baby_cry")


def test_a_wrong_graph_is_refused_by_its_hash(tmp_path: Path) -> None:
    folder = written(tmp_path / "b", spec().to_json(), graph=b"another graph")
    with pytest.raises(BundleError, match=r"model\.onnx: its SHA-256 is"):
        read_bundle(folder)


@pytest.mark.parametrize("name", ["bundle.json", "model.onnx"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = written(tmp_path / "b", spec().to_json())
    (folder / name).unlink()
    with pytest.raises(BundleFileNotFoundError, match=name) as caught:
        read_bundle(folder)
    assert isinstance(caught.value, FileNotFoundError)


def test_a_newer_schema_is_told_apart_even_if_its_fields_have_other_names(tmp_path: Path) -> None:
    folder = written(tmp_path / "b", json.dumps({"schema": 3, "classes": ["scream"]}))
    with pytest.raises(BundleError, match=r"bundle\.json: schema 3 is newer than 1 and 2, which this version reads"):
        read_bundle(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": "1"}', '{"schema": 1}', "\x00", "1e999"])
def test_what_is_no_description_is_one_clear_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(BundleError, match=r"bundle\.json: "):
        read_bundle(written(tmp_path / "b", text))


def test_bytes_that_are_not_text_are_one_clear_error(tmp_path: Path) -> None:
    folder = written(tmp_path / "b", "")
    (folder / "bundle.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BundleError, match=r"bundle\.json: "):
        read_bundle(folder)


@pytest.mark.parametrize("name", ["labels", "sensitive", "sample_rate_hz", "window_samples", "hop_samples", "thresholds", "graph_sha256"])
def test_a_missing_or_wrong_field_is_named_or_described(name: str) -> None:
    raw = json.loads(spec().to_json())
    del raw[name]
    with pytest.raises(BundleError, match=name):
        BundleSpec.from_json(json.dumps(raw))
    if name != "graph_sha256":
        with pytest.raises(BundleError):
            BundleSpec.from_json(json.dumps({**raw, name: 3.5 if name in {"labels", "sensitive", "thresholds"} else "long"}))


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"labels": ()}, "labels"),
        ({"labels": ("scream", "scream")}, "labels"),
        ({"sensitive": ("yodel",)}, "sensitive"),
        ({"sensitive": ()}, "sensitive"),
        ({"thresholds": {"scream": Threshold(0.5)}}, "thresholds"),
        ({"sample_rate_hz": 0}, "sample_rate_hz"),
        ({"window_samples": -1}, "window_samples"),
        ({"hop_samples": 32_001}, "gaps"),
        ({"frame_hop_samples": 0}, "frame_hop_samples"),
        ({"schema": 0}, "older"),
        ({"schema": 2}, "mel_hop_samples belongs to schema 2"),
        ({"mel_hop_samples": 160}, "mel_hop_samples belongs to schema 2"),
        ({"schema": 2, "mel_hop_samples": 0}, "mel_hop_samples must be positive"),
    ],
)
def test_each_invariant_of_a_bundle_fires(changes: dict[str, Any], cause: str) -> None:
    with pytest.raises(BundleError, match=cause):
        spec(**changes)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_threshold_is_a_probability(value: float) -> None:
    with pytest.raises(BundleError, match="probability"):
        Threshold(value)


@pytest.mark.parametrize("values", [(0.0, 0.05, 10, 0), (0.05, 1.0, 10, 0), (0.05, 0.05, 10, 11), (0.05, 0.05, 10, -1)])
def test_a_guarantee_states_something_possible(values: tuple[float, float, int, int]) -> None:
    with pytest.raises(BundleError):
        Guarantee(*values, "c" * 64)
