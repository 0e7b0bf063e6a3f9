"""Where data and model meet for training: a corpus folder becomes batches and a validation for `earmark_model.fit`."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from earmark_cli.evaluation import figures_of
from earmark_cli.progress import counted
from earmark_data.audio import read_audio
from earmark_data.augment import SpectrogramAugment
from earmark_data.dataset import ClipDataset, SamplingConfig
from earmark_data.manifest import ClipRow, Manifest, read_manifest
from earmark_data.pcm import PcmStore
from earmark_data.teachers import Teachers
from earmark_model.checkpoint import CONFIG, LAST, CheckpointError, describe_environment, read_config, write_config
from earmark_model.contract import LABELS, SAMPLE_RATE_HZ
from earmark_model.fit import Batch, Progression, TrainConfig, Trainer
from earmark_model.metrics import Figures
from earmark_model.network import Tagger

MAX_CLIP_S = 30.0


@dataclass(frozen=True, slots=True)
class TrainingInputs:
    """What `train.py` was asked to train on, and where to leave the run."""

    corpus: Path
    out: Path
    device: str
    licence_tiers: tuple[str, ...]
    leave_out: tuple[str, ...]
    use_teachers: bool
    workers: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that is ready to start."""

    inputs: TrainingInputs
    config: TrainConfig
    sampling: SamplingConfig
    dataset: ClipDataset
    validation: Manifest
    pcm: PcmStore


def manifest_path(corpus: Path) -> Path:
    """The manifest of a corpus given as its folder or as the file itself."""
    return corpus / "manifest.csv" if corpus.is_dir() else corpus


def prepare(inputs: TrainingInputs, config: TrainConfig, *, resume: bool) -> Prepared:
    """Read and check the corpus, decode it once, and write `config.json` into the run folder.

    Raises:
        ManifestError, AudioError, TeacherError: the corpus cannot be used.
        CheckpointError: `resume` and the run was of another corpus or configuration; or not `resume` and the folder holds a run.
    """
    with counted("reading the manifest") as progress:
        whole = read_manifest(manifest_path(inputs.corpus), progress=progress)
    tiers = inputs.licence_tiers or None
    chosen = whole.select(licence_tiers=tiers, leave_out=inputs.leave_out)
    teachers = Teachers.read(whole.path.parent / "teachers", whole) if inputs.use_teachers else None
    network = dataclasses.replace(config.network, teacher_labels=len(teachers.labels) if teachers else 0)
    config, sampling = dataclasses.replace(config, network=network), SamplingConfig()
    described = {
        "train": asdict(config),
        "sampling": asdict(sampling),
        "leave_out": list(inputs.leave_out),
        "licence_tiers": sorted({row.licence_tier for row in chosen if row.split == "train"}),
        "corpus": str(inputs.corpus),
        "manifest_sha256": whole.sha256,
        "teachers": bool(teachers),
    }
    _claim_run(inputs.out, described, resume=resume)
    with counted("decoding clips") as progress:
        pcm = PcmStore.open(whole, inputs.out.parent / ".pcm", progress=progress)
    rooms = [read_audio(path) for path in sorted((whole.path.parent / "rirs").glob("*.wav"))]
    dataset = ClipDataset(chosen.select(splits=["train"]), pcm, sampling, seed=config.seed, teachers=teachers, rooms=rooms)
    return Prepared(inputs, config, sampling, dataset, chosen.select(splits=["val"]), pcm)


def train(prepared: Prepared, *, resume: bool) -> Progression:
    """Run the training loop to its end."""
    config, inputs = prepared.config, prepared.inputs
    frontend = config.frontend
    floor = (math.log(frontend.log_floor) - frontend.mean) / frontend.std
    augment = SpectrogramAugment(floor, math.log(10) / 10 / frontend.std)
    trainer = Trainer(config, inputs.out, device=pick_device(inputs.device), augment=augment)
    if resume:
        trainer.resume()
    return trainer.fit(_loader(prepared), lambda tagger: validate(tagger, prepared.validation, prepared.pcm))


def pick_device(name: str) -> torch.device:
    """`auto` is a GPU when there is one.

    Raises:
        ValueError: the name is unknown, or that device is not here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in {"cpu", "cuda"}:
        msg = f"--device must be auto, cpu or cuda, got {name!r}"
        raise ValueError(msg)
    if name == "cuda" and not torch.cuda.is_available():
        msg = "--device cuda: torch sees no GPU here; use --device auto or cpu"
        raise ValueError(msg)
    return torch.device(name)


def validate(tagger: Tagger, manifest: Manifest, pcm: PcmStore) -> Figures:
    """Figures over whole clips of `manifest`, as the exported graph would score them."""
    return figures_of(torch.sigmoid(torch.from_numpy(clip_logits(tagger, manifest, pcm))).numpy(), manifest)


def clip_logits(tagger: Tagger, manifest: Manifest, pcm: PcmStore) -> NDArray[np.float32]:
    """Clip logits `[clips, labels]`; clips of near lengths are scored together, zero-padded by less than half a second."""
    device = next(tagger.parameters()).device
    grouped: dict[int, list[int]] = {}
    for position, row in enumerate(manifest):
        grouped.setdefault(_padded(pcm, row), []).append(position)
    logits = np.zeros((len(manifest), len(LABELS)), np.float32)
    with torch.inference_mode():
        for samples, positions in grouped.items():
            for first in range(0, len(positions), 4):  # few at once stay in a processor's cache: four times as fast
                some = positions[first : first + 4]
                audio = np.zeros((len(some), samples), np.float32)
                for slot, position in enumerate(some):
                    clip = pcm.read(manifest.rows[position].index, 0, samples)
                    audio[slot, : clip.size] = clip
                logits[some] = tagger(torch.from_numpy(audio).to(device)).clip.cpu().numpy()
    return logits


def _padded(pcm: PcmStore, row: ClipRow, window_samples: int = 2 * SAMPLE_RATE_HZ) -> int:
    step = SAMPLE_RATE_HZ // 2
    length = min(pcm.length(row.index), int(MAX_CLIP_S * SAMPLE_RATE_HZ))
    return max(window_samples, -(-length // step) * step)


def _loader(prepared: Prepared) -> Callable[[int], Iterable[Batch]]:
    config = prepared.config

    def epoch(number: int) -> Iterator[Batch]:
        first = number * config.examples_per_epoch
        indices = range(first, first + config.examples_per_epoch)
        loader = DataLoader(
            prepared.dataset,
            batch_size=config.batch_size,
            sampler=indices,
            num_workers=prepared.inputs.workers,
            drop_last=config.examples_per_epoch >= config.batch_size,
        )
        return cast("Iterator[Batch]", iter(loader))

    return epoch


def _claim_run(out: Path, described: dict[str, object], *, resume: bool) -> None:
    """Write `config.json`, or on resuming check that the corpus and the configuration are those of the run."""
    if not resume:
        if (out / LAST).exists():
            msg = f"{out} already holds a run; go on with --resume, or choose another --out"
            raise CheckpointError(msg)
        out.mkdir(parents=True, exist_ok=True)
        write_config(out, {**described, "environment": describe_environment()})
        return
    before = read_config(out)
    if before.get("manifest_sha256") != described["manifest_sha256"]:
        msg = f"{out / CONFIG}: the manifest has changed since this run began; resume with that corpus, or start a new run"
        raise CheckpointError(msg)
    now = json.loads(json.dumps(described))
    for part, given in _fixed(now).items():
        if (began := _fixed(before).get(part)) != given:
            msg = f"{out / CONFIG}: this run began with {part} {began}, not {given}; resume with the same, or start a new run"
            raise CheckpointError(msg)
    write_config(out, {**now, "environment": before["environment"], "resumed": [*before.get("resumed", []), describe_environment()]})


def _fixed(described: dict[str, Any]) -> dict[str, Any]:
    """What may not change when a run is resumed: everything but how long it goes on, and where the corpus lies."""
    train = {f"train.{name}": value for name, value in described["train"].items() if name not in {"minutes", "epochs"}}
    return {**train, **{name: described[name] for name in ("sampling", "leave_out", "licence_tiers", "teachers")}}
