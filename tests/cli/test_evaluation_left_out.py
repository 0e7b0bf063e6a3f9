from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from rich.console import Console
from tests.data.corpora import row, write_corpus, write_rows
from typer.testing import CliRunner

from earmark_cli import leave_out_table
from earmark_cli.leave_out import OURS, Candidate, Trial, compare, evaluate_left_out, left_out_pool
from earmark_cli.leave_out_page import write_left_out
from earmark_cli.main import build
from earmark_cli.scored import Scored
from earmark_data.manifest import Manifest, ManifestError, read_manifest
from earmark_model.checkpoint import CheckpointError
from earmark_model.contract import LABELS, SPEC_FILE, read_bundle
from earmark_model.fit import Trainer
from earmark_model.metrics import measure
from earmark_model.network import NetworkSpec
from earmark_model.processes import Processes
from earmark_model.train_config import TrainConfig

SHIPPED = Path(__file__).parents[2] / "model" / "bundles" / "earmark"
COLUMNS = ("path", "label", "split", "source", "group", "duration_s", "alternative_label", "licence_tier")


def manifest_of(folder: Path, *clips: dict[str, str]) -> Manifest:
    for clip in clips:
        (folder / clip["path"]).touch()
    return read_manifest(write_rows(folder, list(clips), COLUMNS))


def scored(manifest: Manifest, triage: list[float], name: str = OURS, **columns: list[float]) -> Scored:
    scores = np.zeros((len(manifest), len(LABELS)))
    scores[:, LABELS.index("scream")] = triage
    for label, values in columns.items():
        scores[:, LABELS.index(label)] = values
    return Scored(name, manifest, scores)


def test_the_pool_holds_all_splits_of_what_was_left_out_and_no_group_that_was_trained_on(tmp_path: Path) -> None:
    whole = manifest_of(
        tmp_path,
        row("a", source="out", split="train"),
        row("b", source="out", split="test"),
        row("c", source="out", split="train", group="both"),
        row("d", source="kept", split="train", group="both", label="speech"),
        row("e", source="kept", split="val", label="speech"),
        row("f", source="kept", split="val", label="scream"),
        row("g", source="kept", split="test", label="speech", group="never-trained-on"),
        row("i", source="out", split="test", group="never-trained-on"),
        row("h", source="kept", split="val", label="speech", licence_tier="unknown"),
    )
    pool, shared = left_out_pool(whole, Candidate(tmp_path, ("out",), ("open",), whole.sha256))
    assert [clip.path.name for clip in pool] == ["a", "b", "i", "e"]
    assert shared == Counter(out=1)


def trial(tmp_path: Path) -> Trial:
    """Ten screams, four cries and a rooster left out, with a hundred harmless clips of kept sources."""
    clips = [row(f"s{number}", source="screams", group=f"gs{number // 2}") for number in range(10)]
    clips += [row(f"c{number}", source="cries", label="cry") for number in range(4)]
    clips += [row("r", source="roosters", label="background", duration_s="3600")]
    clips += [row(f"n{number}", source="kept", label="speech", split="val", duration_s="36") for number in range(99)]
    manifest = manifest_of(tmp_path, *clips)
    # 1 % of 100 harmless clips: the rooster may fire, so the threshold is just above the loudest of the rest, 0.5
    quiet = list(np.linspace(0, 0.5, 99))
    ours = scored(manifest, [0.9] * 8 + [0.1] * 2 + [0.7] * 3 + [0.2] + [0.8] + quiet, cry=[0.0] * 10 + [0.75] * 4 + [0.0] * 100)
    peer = scored(manifest, [0.9] * 4 + [0.1] * 6 + [0.1] * 4 + [0.1] + quiet[:-1] + [0.6], "mn04", cry=[0.5] * 114)
    candidate = Candidate(tmp_path / "run", ("screams", "cries", "roosters"), (), manifest.sha256)
    return Trial(candidate, ["cries", "roosters", "screams"], Counter(), [ours, peer])


def test_each_source_is_measured_at_the_threshold_of_the_pooled_negatives(tmp_path: Path) -> None:
    figures = compare([trial(tmp_path)], resamples=200)
    screams = next(each for each in figures.sources if each.source == "screams")
    cries = next(each for each in figures.sources if each.source == "cries")
    assert (screams.recall[OURS]["1 %"], screams.recall["mn04"]["1 %"]) == (0.8, 0.4)
    assert (cries.recall[OURS]["1 %"], cries.averaged) == (1.0, False)  # four are too few to be averaged
    assert figures.mean_recall == {OURS: screams.recall[OURS], "mn04": screams.recall["mn04"]}
    assert figures.above_better_peer["1 %"] == pytest.approx(0.4)
    assert figures.above_interval is not None
    assert figures.above_interval[0] < 0.4 < figures.above_interval[1]
    assert screams.interval is not None
    assert screams.interval[0] < 0.8 < screams.interval[1]


def test_false_alarms_per_hour_count_the_hours_of_the_pool(tmp_path: Path) -> None:
    figures = compare([trial(tmp_path)], resamples=10)  # 1.99 h: one alarm at 1 per hour, nine at 5
    screams = next(each for each in figures.sources if each.source == "screams")
    assert screams.recall[OURS]["1 per hour"] == 0.8
    assert figures.negatives["run"]["hours"] == pytest.approx(1.99)
    lone = trial(tmp_path)
    quiet = [replace(each, scores=np.where(each.labels[:, None] == LABELS.index("speech"), 0.95, each.scores)) for each in lone.models]
    assert compare([replace(lone, models=quiet)], resamples=10).sources[0].recall[OURS]["5 per hour"] == 0.0


def test_harmless_sources_tell_where_the_alarms_come_from(tmp_path: Path) -> None:
    figures = compare([trial(tmp_path)], resamples=10)
    assert [(each.source, each.share) for each in figures.harmless] == [("roosters", {OURS: 1.0, "mn04": 0.0})]
    assert figures.harmless[0].per_hour[OURS] == pytest.approx(1.0)


def test_screams_are_told_from_crying_over_all_runs_together(tmp_path: Path) -> None:
    figures = compare([trial(tmp_path)], resamples=10)
    assert (figures.scream_clips, figures.crying_clips) == (10, 4)
    assert figures.scream_against_crying[OURS] == 1.0  # even the two quiet screams lean further from crying than the loud cries
    assert figures.scream_against_crying["mn04"] == pytest.approx((4 * 4 + 6 * 4 * 0.5) / 40)


def test_acted_anger_stands_for_shouts_inside_its_own_source(tmp_path: Path) -> None:
    anger = [row(f"a{number}", source="acted", label="speech", alternative_label="shout") for number in range(3)]
    calm = [row(f"b{number}", source="acted", label="speech") for number in range(4)]
    manifest = manifest_of(tmp_path, *anger, *calm)
    model = scored(manifest, [0.0] * 7, shout=[0.9, 0.8, 0.1, 0.2, 0.2, 0.2, 0.2])
    figures = compare([Trial(Candidate(tmp_path, ("acted",), (), manifest.sha256), ["acted"], Counter(), [model])], resamples=10)
    assert figures.shout == {"acted": {OURS: pytest.approx(8 / 12)}}
    assert figures.sources == []


@pytest.fixture(scope="module")
def corpus_of_tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"), clips_per_label=2)


@pytest.fixture
def bundle(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped graph, said to be trained on `corpus` without the source s0."""
    folder = tmp_path_factory.mktemp("bundle") / "without-s0"
    shutil.copytree(SHIPPED, folder)
    return folder


def trained_on(bundle: Path, manifest: Path, *left_out: str, tiers: Sequence[str] = ()) -> None:
    spec = read_bundle(bundle)
    provenance = {"corpus_sha256": read_manifest(manifest).sha256, "leave_out": list(left_out), "licence_tiers": list(tiers)}
    (bundle / SPEC_FILE).write_text(replace(spec, provenance=provenance).to_json())


def test_sources_that_were_not_left_out_or_by_two_models_are_refused(bundle: Path, corpus_of_tones: Path) -> None:
    trained_on(bundle, corpus_of_tones, "s0")
    with pytest.raises(ManifestError, match="--leave-out s1: it was left out by none of the models"):
        evaluate_left_out([bundle], corpus_of_tones, ["s1"])
    with pytest.raises(ManifestError, match="--leave-out s0: it was left out by more than one"):
        evaluate_left_out([bundle, bundle], corpus_of_tones, ["s0"])
    trained_on(bundle, corpus_of_tones)
    with pytest.raises(ManifestError, match="nothing was left out in training"):
        evaluate_left_out([bundle], corpus_of_tones, ["all"])


def test_sources_of_other_licence_tiers_than_those_trained_on_were_left_out_too(bundle: Path, corpus_of_tones: Path) -> None:
    trained_on(bundle, corpus_of_tones, tiers=["open"])  # s0 is open, s1 is not
    assert [each.source for each in evaluate_left_out([bundle], corpus_of_tones, ["all"]).sources] == ["s1"]


def test_another_manifest_than_the_one_trained_on_is_refused(bundle: Path, corpus_of_tones: Path) -> None:
    with pytest.raises(ManifestError, match="not the manifest that"):
        evaluate_left_out([bundle], corpus_of_tones, ["s0"])


def test_the_command_scores_what_a_bundle_left_out(bundle: Path, corpus_of_tones: Path) -> None:
    trained_on(bundle, corpus_of_tones, "s0")
    command = [sys.executable, "-m", "earmark_cli.main", "model", "evaluate", bundle, corpus_of_tones, "--leave-out", "all"]
    done = subprocess.run([*map(str, command), "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert [each["source"] for each in figures["sources"]] == ["s0"]
    assert figures["sources"][0]["positives"] == {"scream": 3, "cry": 3, "baby_cry": 3}
    assert figures["models"] == ["earmark"]


def test_a_licence_tier_is_kept_to_and_options_that_say_nothing_here_are_misuse(bundle: Path, corpus_of_tones: Path) -> None:
    trained_on(bundle, corpus_of_tones, "s0")
    asked = ["model", "evaluate", str(bundle), str(corpus_of_tones), "--leave-out", "all", "--json"]
    figures = json.loads(CliRunner().invoke(build("model"), [*asked, "--licence", "open"]).stdout)
    assert figures["sources"][0]["positives"] == {"scream": 3, "cry": 3, "baby_cry": 3}  # s0 is open, s1 is not
    assert figures["negatives"]["without-s0"]["clips"] == 12, "and s1's harmless validation clips set no threshold"
    none = CliRunner().invoke(build("model"), [*asked, "--licence", "secret"])
    assert (none.exit_code, none.stderr.count("no row is left")) == (1, 1)
    for more in (["--source", "s0"], ["--robustness"], ["--write-card"]):
        refused = CliRunner().invoke(build("model"), [*asked, *more])
        assert (refused.exit_code, "goes with --licence, --peer, --out and --json" in refused.stderr) == (2, True)


def test_the_page_holds_every_source_its_pictures_and_both_aurocs(tmp_path: Path) -> None:
    figures = compare([trial(tmp_path)], resamples=10)
    write_left_out(figures, tmp_path / "report")
    page = (tmp_path / "report" / "left-out.html").read_text()
    for said in ("screams", "(cries)", "roosters", "scream against crying", "10 against 4", "+0.400", "0.800", "mn04"):
        assert said in page
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page
    assert json.loads((tmp_path / "report" / "left-out.json").read_text())["mean_recall"] == figures.mean_recall


def test_the_table_names_every_source_and_model(tmp_path: Path) -> None:
    held = StringIO()
    leave_out_table.print_left_out(compare([trial(tmp_path)], resamples=10), Console(file=held, width=118))
    lines = held.getvalue().splitlines()
    assert "10 scream" in next(line for line in lines if line.strip("│ ").startswith("screams"))
    assert "(cries)" in held.getvalue()  # in brackets: not averaged
    assert "+0.400" in held.getvalue()
    assert "0.800" in held.getvalue()
    assert "10 against 4 left-out clips, AUROC: ours 1.000" in held.getvalue()


class Examples(NamedTuple):
    audio: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor
    teacher: torch.Tensor


def train_without(run: Path, source: str, manifest: Path) -> None:
    """One step of training on noise, in a run folder that says what it left out."""
    run.mkdir()
    config = TrainConfig(seed=0, epochs=1, examples_per_epoch=4, batch_size=4, network=NetworkSpec(blocks=7, embedding=32))
    noise = torch.randn(4, 16_000, generator=torch.Generator().manual_seed(0)) * 0.1
    batch = Examples(noise, torch.zeros(4, len(LABELS)), torch.ones(4, len(LABELS)), torch.zeros(4, 0))
    figures = measure(np.full((2, len(LABELS)), 0.5), np.array([0, len(LABELS) - 1]), np.ones(2))
    Trainer(config, run, processes=Processes("cpu")).fit(lambda _: iter([batch]), lambda _: {"val": figures})
    said = {"leave_out": [source], "licence_tiers": ["open", "unknown"], "manifest_sha256": read_manifest(manifest).sha256}
    (run / "config.json").write_text(json.dumps(said))


def test_every_source_is_heard_by_the_run_that_left_it_out(corpus_of_tones: Path, tmp_path: Path) -> None:
    train_without(tmp_path / "a", "s0", corpus_of_tones)
    train_without(tmp_path / "b", "s1", corpus_of_tones)
    figures = evaluate_left_out([tmp_path / "b", tmp_path / "a"], corpus_of_tones, ["all"])
    assert {each.source: each.heard_by for each in figures.sources} == {"s0": "a", "s1": "b"}
    assert {each.source: each.heard_by for each in figures.harmless} == {"s0": "a", "s1": "b"}
    # twelve harmless clips of the source left out in three splits, and four validation clips of the kept one
    assert {run: pooled["clips"] for run, pooled in figures.negatives.items()} == {"a": 16, "b": 16}
    assert (figures.scream_clips, figures.crying_clips) == (6, 12)
    asked = evaluate_left_out([tmp_path / "b", tmp_path / "a"], corpus_of_tones, ["s1"])
    assert [each.source for each in asked.sources] == ["s1"]


def test_a_folder_that_is_no_run_is_told_so(corpus_of_tones: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: not a readable training configuration"):
        evaluate_left_out([tmp_path], corpus_of_tones, ["all"])


def test_a_peer_that_is_named_hears_each_clip_once_however_many_runs_share_it(
    corpus_of_tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counting:
        name = "mn04"
        heard = 0

        def hear(self, audio: np.ndarray) -> np.ndarray:
            self.heard += 1
            return np.full(len(LABELS), float(np.abs(audio).max()))

    peer = Counting()
    monkeypatch.setattr("earmark_cli.leave_out.peer_of", lambda _name, _whole: peer)
    train_without(tmp_path / "a", "s0", corpus_of_tones)
    train_without(tmp_path / "b", "s1", corpus_of_tones)
    figures = evaluate_left_out([tmp_path / "a", tmp_path / "b"], corpus_of_tones, ["all"], ["mn04"])
    assert figures.models == [OURS, "mn04"]
    assert peer.heard == len(read_manifest(corpus_of_tones))
