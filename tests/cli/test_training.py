"""What a run needs before it starts, what it refuses, and how several processes share it."""

from __future__ import annotations

import csv
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tests.data.corpora import write_corpus, write_rows

from earmark_cli.training import Prepared, TrainingInputs, _loader, prepare, validate
from earmark_data.manifest import ManifestError
from earmark_model.checkpoint import CheckpointError
from earmark_model.fit import Trainer
from earmark_model.network import NetworkSpec
from earmark_model.processes import Processes
from earmark_model.train_config import TrainConfig

ROOT = Path(__file__).parents[2]
ALONE = Processes("cpu")
SMALL = TrainConfig(seed=0, epochs=1, examples_per_epoch=8, batch_size=4, network=NetworkSpec(blocks=7, embedding=16))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    write_corpus(folder, clips_per_label=2, seconds=1.0)
    return folder


def kept(corpus: Path, keep) -> Path:
    """The corpus with those rows of its manifest only for which `keep(label, split)` holds."""
    with (corpus / "manifest.csv").open() as file:
        return write_rows(corpus, [row for row in csv.DictReader(file) if keep(row["label"], row["split"])])


def prepared(corpus: Path, config: TrainConfig = SMALL, *, resume: bool = False, **more) -> Prepared:
    inputs = TrainingInputs(corpus, corpus.parent / "runs" / "first", use_teachers=False, workers=0, **more)
    return prepare(inputs, config, ALONE, resume=resume)


SENSITIVE = {"scream", "cry", "baby_cry"}


@pytest.mark.parametrize(
    ("keep", "told"),
    [
        (
            lambda label, split: split != "train",
            "no row is left of split train; there are splits test, val and licence tiers open, unknown; `earmark data split` deals",
        ),
        (
            lambda label, split: split != "val",
            "no row is left of split val; there are splits test, train and licence tiers open, unknown; `earmark data split` deals",
        ),
        (lambda label, split: split == "train" or label not in SENSITIVE, "the clips of val hold no scream, cry or baby_cry"),
        (
            lambda label, split: split == "train" or label in SENSITIVE,
            "the clips of val hold nothing but sensitive sounds, so no checkpoint can be chosen by them; add others",
        ),
        (lambda label, split: split == "val" or label not in SENSITIVE, "split train holds no clip of scream, cry, baby_cry"),
    ],
)
def test_a_corpus_that_cannot_train_is_told_in_one_line_before_anything_is_written(corpus: Path, keep, told: str) -> None:
    kept(corpus, keep)
    with pytest.raises(ManifestError, match=re.escape(told)) as caught:
        prepared(corpus)
    assert "\n" not in str(caught.value)
    assert not (corpus.parent / "runs").exists()


def test_an_empty_class_is_told_in_a_line_and_the_others_are_learned(corpus: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept(corpus, lambda label, split: label != "cry" and not (label == "scream" and split == "val"))
    with caplog.at_level(logging.WARNING):
        prepared(corpus)
    assert [record.getMessage() for record in caplog.records] == [
        "no clip of cry, shout to train on: the network will not learn to hear it",
        "no clip of scream in split val: it is trained, but checkpoints are chosen without it",
    ]


def test_clips_that_were_replaced_stop_a_resume_and_nothing_is_changed(corpus: Path) -> None:
    prepared(corpus)
    config = corpus.parent / "runs" / "first" / "config.json"
    before = config.read_bytes()
    soundfile.write(corpus / "scream-train-0.wav", np.zeros(8_000), 16_000)
    with pytest.raises(CheckpointError, match=r"config\.json: clips' files have changed since this run began; resume with that corpus"):
        prepared(corpus, resume=True)
    assert config.read_bytes() == before


def test_left_out_sources_are_watched_on_request_without_their_test_clips(corpus: Path) -> None:
    watched = prepared(corpus, leave_out=("s1",), validate_on="left-out")
    assert {row.source for row in watched.validation["val"]} == {"s0"}
    assert {(row.source, row.split) for row in watched.validation["left-out"]} == {("s1", "train"), ("s1", "val")}
    figures = validate(Trainer(SMALL, corpus, processes=ALONE).tagger.eval(), watched.validation, watched.pcm)
    assert {name: each.clips for name, each in figures.items()} == {"val": 7, "left-out": 14}
    assert {row.source for sources in watched.dataset.rows.values() for rows in sources.values() for row in rows} == {"s0"}
    for words in ({"validate_on": "left-out"}, {"validate_on": "test"}):
        with pytest.raises(ManifestError, match=r"name at least one with --leave-out|must be one of val, left-out, got 'test'"):
            prepared(corpus, **words)


def test_a_run_decodes_only_what_it_needs_and_the_next_only_what_is_new(corpus: Path) -> None:
    def stored() -> int:
        (store,) = (corpus.parent / "runs" / ".pcm").glob("*.pcm")
        return store.stat().st_size // 2

    prepared(corpus, leave_out=("s1",))
    assert stored() == 14 * 16_000  # of s0: seven labels in train and in val, a second each
    again = TrainingInputs(corpus, corpus.parent / "runs" / "second", use_teachers=False, workers=0)
    prepare(again, SMALL, ALONE, resume=False)
    assert stored() == 28 * 16_000


class Half:
    """One of two processes, without the other: what `_loader` asks of them."""

    count, device = 2, ALONE.device

    def __init__(self, index: int) -> None:
        self.index = index


def test_each_process_sees_its_own_share_of_every_batch(corpus: Path) -> None:
    ready = prepared(corpus)
    whole = [batch.audio for batch in _loader(ready, ALONE)(3)]
    halves = [[batch.audio for batch in _loader(ready, Half(index))(3)] for index in (0, 1)]
    assert [len(audio) for audio in whole] == [4, 4]
    for audio, first, second in zip(whole, *halves, strict=True):
        assert not np.array_equal(first, second)
        assert np.array_equal(audio, np.concatenate([first, second]))


def torchrun(corpus: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(ROOT / "train.py")]
    fixed = ["--no-teachers", "--examples-per-epoch", "8", "--batch-size", "4", "--workers", "0", "--device", "cpu", "--size", "small"]
    loopback = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo" if sys.platform == "linux" else "lo0"}
    command = [*words, "--corpus", str(corpus), "--out", str(out), *fixed, *more]
    return subprocess.Popen(command, env=loopback, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_stop_together_save_once_refuse_once_and_go_on(corpus: Path) -> None:
    out = corpus.parent / "runs" / "two"
    process = torchrun(corpus, out, "--epochs", "1000")
    deadline = time.monotonic() + 120
    while not (out / "last.pt").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert errors.count(f"interrupted; the work is kept in {out}. Go on with: the same torchrun command with --resume") == 1
    assert f'File "{ROOT / "train.py"}"' not in errors, "no process ends with a traceback of ours"

    refused = torchrun(corpus, out)
    assert refused.communicate(timeout=120)[1].count("already holds a run") == 1
    assert refused.returncode != 0

    epochs = len((out / "log.csv").read_text().splitlines()) - 1
    resumed = torchrun(corpus, out, "--epochs", str(epochs + 2), "--resume")
    results, errors = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, errors
    assert results.count(f"done: {epochs + 2} epochs") == 1
    config = json.loads((out / "config.json").read_text())
    assert (config["processes"], len(config["resumed"])) == (2, 1)
    assert [row.split(",")[0] for row in (out / "log.csv").read_text().splitlines()[1:]] == [str(n + 1) for n in range(epochs + 2)]
