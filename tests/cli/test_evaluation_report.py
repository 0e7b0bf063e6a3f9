from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.data.corpora import write_corpus
from typer.testing import CliRunner

from earmark_cli.main import build

SHIPPED = Path(__file__).parents[2] / "model" / "bundles" / "earmark"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), clips_per_label=2)


def evaluate(*words: str | Path) -> tuple[int, str, str]:
    done = CliRunner().invoke(build("model"), ["model", "evaluate", *map(str, words)])
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(scope="module")
def report(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "made"
    code, stdout, stderr = evaluate(SHIPPED, manifest, "--split", "val", "--peer", "yamnet", "--robustness", "--out", out)
    assert code == 0, stderr
    assert "evaluation.html" in stdout
    assert "babble at 0 dB" in stdout
    return out


def test_the_folder_holds_json_a_page_and_pictures(report: Path) -> None:
    pictures = {"det.png", "precision-recall.png", "reliability.png", "confusion-labels.png", "confusion-sources.png", "robustness.png"}
    assert {path.name for path in report.iterdir()} == {"evaluation.json", "evaluation.html", *pictures}
    for name in pictures:
        assert (report / name).read_bytes().startswith(b"\x89PNG")


def test_the_json_holds_every_model_every_condition_and_the_worst_clips(report: Path) -> None:
    found = json.loads((report / "evaluation.json").read_text())
    assert [model["name"] for model in found["models"]] == ["earmark", "yamnet"]
    assert (found["clips"], found["split"], found["bundle"]) == (14, "val", "earmark")
    assert len({row["condition"] for row in found["robustness"]}) == 13
    assert len(found["robustness"]) == 26
    assert found["models"][0]["recall"]["1 %"]["interval"] is not None
    assert len(found["misses"]) == 6
    assert found["labels"]["scream"]["positives"] == 2
    assert set(found["above"]) == {"yamnet"}


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.sources: list[str] = []
        self.alternatives: list[str | None] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.opened.append(tag)
        held = dict(attributes)
        self.sources += [value for key in ("src", "href") if (value := held.get(key))]
        if tag == "img":
            self.alternatives.append(held.get("alt"))


def test_the_page_needs_nothing_beside_it_and_describes_its_pictures(report: Path) -> None:
    text = (report / "evaluation.html").read_text()
    page = Page(text)
    assert page.opened.count("img") == 6
    assert page.opened.count("table") == 8
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert len(page.sources) == 6
    assert "script" not in page.opened
    assert "link" not in page.opened
    assert all(alternative and "14 clips, val split" in alternative for alternative in page.alternatives)
    for heading in (
        "Triage",
        "Robustness",
        "Worst misses",
        "Worst false alarms",
        "Triage by source",
        "False alarms by source",
        "Reliability",
    ):
        assert f"<h2>{heading}</h2>" in text
    assert "scream-val-0.wav" in text


def test_names_from_a_manifest_are_text_on_the_page(manifest: Path, tmp_path: Path) -> None:
    shutil.copytree(manifest.parent, tmp_path / "corpus")
    copied = tmp_path / "corpus" / "manifest.csv"
    copied.write_text(copied.read_text().replace(",s1,", ",<b>s1</b>,"))
    assert evaluate(SHIPPED, copied, "--split", "val", "--out", tmp_path / "out")[0] == 0
    text = (tmp_path / "out" / "evaluation.html").read_text()
    assert "&lt;b&gt;s1&lt;/b&gt;" in text
    assert "<b>s1</b>" not in text


def test_the_card_takes_the_comparison_and_keeps_its_other_parts(manifest: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(SHIPPED, bundle)
    before = (bundle / "CARD.md").read_text()
    assert evaluate(bundle, manifest, "--split", "test", "--peer", "yamnet", "--write-card")[0] == 0
    card = (bundle / "CARD.md").read_text()
    assert re.search(r"\| above yamnet \|", card)
    assert card.count("## Figures on the test split") == 1
    assert set(re.findall("^## .*", before, re.MULTILINE)) <= set(re.findall("^## .*", card, re.MULTILINE))
    assert evaluate(bundle, manifest, "--split", "test", "--peer", "yamnet", "--write-card")[0] == 0
    assert (bundle / "CARD.md").read_text() == card


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["--split", "night"], "--split must be one of train, val, test, got 'night'"),
        (["--source", "nowhere"], "no source named nowhere"),
        (["--licence", "secret"], "no row is left"),
        (["--peer", "mn04"], "mn04_as.pt: no such file"),
        (["--peer", "panns"], "--peer must be one of yamnet, mn04, got 'panns'"),
    ],
)
def test_what_cannot_be_evaluated_is_one_clear_line(manifest: Path, tmp_path: Path, words: list[str], cause: str) -> None:
    code, stdout, stderr = evaluate(SHIPPED, manifest, "--out", tmp_path / "out", *words)
    assert (code, stdout) == (1, "")
    assert cause in stderr
    assert stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("kept", "missing"), [("speech", "sensitive"), ("scream", "harmless")])
def test_a_split_that_cannot_show_triage_is_refused(manifest: Path, tmp_path: Path, kept: str, missing: str) -> None:
    copied = tmp_path / "corpus"
    shutil.copytree(manifest.parent, copied)
    lines = (copied / "manifest.csv").read_text().splitlines()
    (copied / "manifest.csv").write_text("\n".join([lines[0], *(line for line in lines if line.startswith(f"{kept}-"))]))
    code, _, stderr = evaluate(SHIPPED, copied / "manifest.csv", "--split", "val")
    assert code == 1
    assert f"hold no {missing} one" in stderr


def test_a_clip_that_cannot_be_read_is_named(manifest: Path, tmp_path: Path) -> None:
    shutil.copytree(manifest.parent, tmp_path / "corpus")
    (tmp_path / "corpus" / "speech-val-1.wav").write_bytes(b"no sound")
    code, _, stderr = evaluate(SHIPPED, tmp_path / "corpus" / "manifest.csv", "--split", "val")
    assert code == 1
    assert "speech-val-1.wav" in stderr


def test_several_models_without_leave_out_are_misuse(manifest: Path) -> None:
    code, _, stderr = evaluate(SHIPPED, SHIPPED, manifest)
    assert code == 2
    assert "several models only with --leave-out" in stderr
