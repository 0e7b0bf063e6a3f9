"""Where data and model meet for training: a corpus folder becomes batches and a validation for `earmark_model.fit`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate.data_loader import BatchSamplerShard
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset

from earmark_cli.consent_record import used
from earmark_cli.evaluation import figures_of
from earmark_cli.progress import counted
from earmark_cli.taught import TAUGHT_BY, Followed, hear, taught_by_yamnet
from earmark_data.audio import read_audio
from earmark_data.augment import SpectrogramAugment
from earmark_data.dataset import ClipDataset, SamplingConfig
from earmark_data.degraded import CLEAN, Degraded
from earmark_data.labels import MANIFEST_LABELS
from earmark_data.manifest import Manifest, ManifestError, read_manifest
from earmark_data.pcm import PcmStore
from earmark_data.teachers import Teachers
from earmark_edge.window import Windower
from earmark_model.checkpoint import CONFIG, LAST, CheckpointError, describe_environment, read_config, write_config
from earmark_model.consents import note_user
from earmark_model.contract import LABELS, SAMPLE_RATE_HZ, SENSITIVE, BundleError, BundleSpec, read_bundle, sha256_file
from earmark_model.fit import Batch, Trainer
from earmark_model.frontend import FrontendSpec
from earmark_model.metrics import Figures, of_clips
from earmark_model.network import NetworkSpec, Tagger
from earmark_model.pretrained import MEANS, TAGGER, begin_with
from earmark_model.processes import Processes
from earmark_model.train_config import VALIDATED_ON, Progression, TrainConfig
from earmark_model.trunk import Following, Repeating

MAX_CLIP_S = 30.0
FOLLOWED = 80_000
"""So many sounds a bundle hears clean that a network follows; each comes back degraded in other ways."""
VAL, LEFT_OUT = VALIDATED_ON
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainingInputs:
    """What `train.py` was asked to train on, and where to leave the run."""

    corpus: Path
    out: Path
    licence_tiers: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    use_teachers: bool = True
    workers: int = 1
    validate_on: str = VAL
    begin_with: Path | None = None
    taught_by: Path | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run that is ready to start."""

    inputs: TrainingInputs
    config: TrainConfig
    sampling: SamplingConfig
    dataset: ClipDataset
    validation: dict[str, Manifest]
    pcm: PcmStore


def manifest_path(corpus: Path) -> Path:
    """The manifest of a corpus given as its folder or as the file itself."""
    return corpus / "manifest.csv" if corpus.is_dir() else corpus


def beginning(choice: str, corpus: Path) -> Path | None:
    """The weights to begin with: `auto` is the tagger's beside the teachers' scores, where it is there; `none` is random ones."""
    if choice == "none":
        return None
    found = manifest_path(corpus).parent / "teachers" / TAGGER
    if choice == "auto":
        return found if found.is_file() else None
    return Path(choice)


def taught(choice: bool | None, corpus: Path) -> bool:
    """Whether to learn from the taggers' scores: as asked, else where the corpus has any, which an export of verdicts has not."""
    if choice is not None:
        return choice
    is_there = (manifest_path(corpus).parent / "teachers").is_dir()
    if not is_there:
        logger.info("no folder of taggers' scores beside the manifest: learning from its labels alone")
    return is_there


def prepare(inputs: TrainingInputs, config: TrainConfig, processes: Processes, *, resume: bool) -> Prepared:
    """Read and check the corpus, decode what the run needs, and write `config.json` into the run folder.

    Raises:
        ManifestError, AudioError, TeacherError: the corpus cannot be used.
        CheckpointError: `resume` and the run was of another corpus or configuration; or not `resume` and the folder holds a run.
    """
    with counted("reading the manifest") as progress:
        whole = read_manifest(manifest_path(inputs.corpus), progress=progress)
    chosen = whole.select(licence_tiers=inputs.licence_tiers or None, leave_out=inputs.leave_out)
    training, validation = chosen.select(splits=["train"]), _validation(whole, chosen, inputs, config)
    _check_classes(training, validation)
    teachers = Teachers.read(whole.path.parent / "teachers", whole) if inputs.use_teachers else None
    network = dataclasses.replace(config.network, teacher_labels=len(teachers.labels) if teachers and not inputs.taught_by else 0)
    config, sampling = dataclasses.replace(config, network=network), CLEAN if config.heads or inputs.taught_by else SamplingConfig()
    tiers = sorted({row.licence_tier for row in chosen if row.split == "train"})
    leader = _leader(inputs, tiers)
    needed = dataclasses.replace(whole, rows=tuple({row.index: row for each in (training, *validation.values()) for row in each}.values()))
    described = {
        "train": asdict(config),
        "sampling": asdict(sampling),
        "leave_out": list(inputs.leave_out),
        "licence_tiers": tiers,
        "consents": _consents(needed, leader),
        "corpus": str(inputs.corpus),
        "manifest_sha256": whole.sha256,
        "clips_sha256": _fingerprint(needed),
        "validated_on": list(validation),
        "teachers": bool(teachers),
        "taught_by": leader and {"name": cast("Path", inputs.taught_by).name, "sha256": leader.graph_sha256},
        "begin_with": None if inputs.begin_with is None else {"name": inputs.begin_with.name, "sha256": sha256_file(inputs.begin_with)},
        "processes": processes.count,
    }
    if processes.main:
        _claim_run(inputs.out, described, resume=resume)
    if processes.main and described["consents"]:
        note_user(whole.path.parent, inputs.out)
    with counted("decoding clips") as progress:
        pcm = PcmStore.open(needed, inputs.out.parent / ".pcm", progress=progress)
    rooms = [read_audio(path) for path in sorted((whole.path.parent / "rirs").glob("*.wav"))]
    dataset = ClipDataset(training, pcm, sampling, seed=config.seed, teachers=teachers, rooms=rooms)
    return Prepared(inputs, config, sampling, dataset, validation, pcm)


def train(prepared: Prepared, processes: Processes, *, resume: bool) -> Progression:
    """Run the training loop to its end."""
    config, inputs = prepared.config, prepared.inputs
    names = prepared.dataset.teachers.labels if prepared.dataset.teachers else ()
    if config.heads:
        return _teach(prepared, processes, names, resume=resume)
    batches: Callable[[int], Iterable[Batch]] = _loader(prepared, processes)
    objective: Following | None = None
    augment = _on_spectrograms(config.frontend)
    if inputs.taught_by:
        examples, deviation = _followed(prepared, inputs.taught_by)
        batches, objective, names = _loader(prepared, processes, examples), Following(deviation), ()
        augment = augment if deviation is None else _undisguised(config.frontend)
    begin = partial(begin_with, path=inputs.begin_with, teacher_labels=names) if inputs.begin_with and not resume else None
    trainer = Trainer(
        config,
        inputs.out,
        processes=processes,
        augment=augment,
        begin=begin,
        teacher_labels=names,
        objective=objective,
    )
    if resume:
        trainer.resume()
    return trainer.fit(batches, lambda tagger: validate(tagger, prepared.validation, prepared.pcm))


def _teach(prepared: Prepared, processes: Processes, names: Sequence[str], *, resume: bool) -> Progression:
    """Teach the tagger's trunk to hear degraded sound as it heard the clean, then learn heads on it.

    What was heard before an interruption is not heard again.
    """
    config, inputs = prepared.config, prepared.inputs
    if inputs.begin_with is None or not names or processes.count > 1 or config.heads is None:
        msg = "--size taught needs the tagger's weights (--begin-with), the teachers' labels, and one process"
        raise ManifestError(msg)
    began = Tagger(config.frontend, config.network)
    torch.manual_seed(config.seed)
    begin_with(began.network, inputs.begin_with, names)
    taught = {row: name.removeprefix(TAUGHT_BY) for row, name in enumerate(names) if name.startswith(TAUGHT_BY)}
    own = [row for row, name in enumerate(names) if name.removeprefix("mn04/") in {each for label in SENSITIVE for each in MEANS[label]}]
    listen = partial(hear, workers=inputs.workers)
    by_yamnet = taught_by_yamnet(prepared.dataset, list(taught.values()))
    clean = listen(began, by_yamnet, config.heads.clean_examples, folder=inputs.out / "clean")
    told = [part.numpy() for part in (clean.target, clean.weight, clean.teacher, clean.embedding)]
    trainer = Trainer(
        config,
        inputs.out,
        processes=processes,
        augment=_undisguised(config.frontend),
        begin=lambda network: network.load_state_dict(began.network.state_dict()),
        teacher_labels=names,
        objective=Repeating(began.network, _deviation(clean.embedding), own, list(taught)),
    )
    if resume and (inputs.out / LAST).exists():
        trainer.resume()
    measure = partial(validate, validation=prepared.validation, pcm=prepared.pcm)
    if trainer.progression.heads:
        return trainer.progression
    trainer.fit(_loader(prepared, processes, Degraded(prepared.dataset, told, seed=config.seed)), measure)
    again = Degraded(prepared.dataset, told, seed=config.seed + 1)
    heard = listen(trainer.draw_back(), again, config.heads.examples, folder=inputs.out / "degraded")
    return trainer.fit_heads(heard, list(taught), measure)


def _followed(prepared: Prepared, bundle: Path) -> tuple[Degraded, Tensor | None]:
    """Degraded examples with what a bundle says of each while it is clean.

    For a light network that begins with the tagger's weights also the tagger's own embedding of each, and how each number of it deviates.
    """
    inputs, tagger = prepared.inputs, None
    if inputs.begin_with and prepared.config.network.light:
        tagger = Tagger(FrontendSpec(), NetworkSpec(sharpness=0.0, coarse=True))
        begin_with(tagger.network, inputs.begin_with)
    clean = hear(tagger, Followed(prepared.dataset, bundle), FOLLOWED, folder=inputs.out / "clean", workers=inputs.workers)
    told = [part.numpy() for part in (clean.target, clean.weight, clean.teacher, clean.embedding)]
    return Degraded(prepared.dataset, told, seed=prepared.config.seed), _deviation(clean.embedding) if tagger else None


def _deviation(embedding: Tensor) -> Tensor:
    """Of each number of embeddings `[sounds, embedding]`, never nearly zero."""
    return embedding.std(0) + 0.05


def _leader(inputs: TrainingInputs, tiers: Sequence[str]) -> BundleSpec | None:
    """The bundle that the run follows, which must have heard nothing that the run may not: what it learned is passed on.

    Raises:
        BundleError: it is missing or damaged, or was trained on clips of other licence tiers or of sources that the run leaves out.
    """
    if inputs.taught_by is None:
        return None
    spec = read_bundle(inputs.taught_by)
    heard, left_out = spec.provenance.get("licence_tiers", ["unknown"]), spec.provenance.get("leave_out", [])
    if inputs.licence_tiers and (more := sorted({*heard} - {*tiers})):
        msg = f"{inputs.taught_by}: trained on clips of licence tiers {', '.join(more)}, which --licence leaves out; follow another bundle"
        raise BundleError(msg)
    if more := sorted({*inputs.leave_out} - {*left_out}):
        msg = f"{inputs.taught_by}: trained on {', '.join(more)}, which --leave-out names; follow a bundle that left them out, too"
        raise BundleError(msg)
    return spec


def _consents(needed: Manifest, leader: BundleSpec | None) -> list[dict[str, Any]]:
    """The records of consent behind the clips, and behind what is followed: a withdrawal reaches whatever learned from them."""
    own = [asdict(one) for one in used(needed)]
    return own + [one for one in (leader.provenance.get("consents", []) if leader else []) if one not in own]


def _on_spectrograms(frontend: FrontendSpec, **chances: Any) -> SpectrogramAugment:
    floor = (math.log(frontend.log_floor) - frontend.mean) / frontend.std
    return SpectrogramAugment(floor, math.log(10) / 10 / frontend.std, **chances)


def _undisguised(frontend: FrontendSpec) -> SpectrogramAugment:
    """For what was told of the clean sound to be learned from: nothing of it is hidden, and none has another's recorder."""
    return _on_spectrograms(frontend, mix_style=0.0, masks=False)


def validate(tagger: Tagger, validation: dict[str, Manifest], pcm: PcmStore) -> dict[str, Figures]:
    """Figures over whole clips of each manifest of `validation`, as the exported graph would score them."""
    figures = {}
    for name, manifest in validation.items():
        logits = torch.from_numpy(clip_logits(tagger, manifest, pcm))
        figures[name] = figures_of(torch.sigmoid(logits).numpy(), manifest)
    return figures


def _validation(whole: Manifest, chosen: Manifest, inputs: TrainingInputs, config: TrainConfig) -> dict[str, Manifest]:
    """What is validated on: split val, and on request the left-out sources' clips, but those of split test."""
    if inputs.validate_on not in VALIDATED_ON:
        msg = f"--validate-on must be one of {', '.join(VALIDATED_ON)}, got {inputs.validate_on!r}"
        raise ManifestError(msg)
    validation = {VAL: chosen.select(splits=["val"])}
    if LEFT_OUT in {inputs.validate_on, config.select_on}:
        if not inputs.leave_out:
            msg = "to validate on left-out sources, name at least one with --leave-out"
            raise ManifestError(msg)
        validation[LEFT_OUT] = whole.select(splits=["train", "val"], only=inputs.leave_out)
    positives = {row.label for row in validation[config.select_on]} & set(SENSITIVE)
    if not positives or positives == {row.label for row in validation[config.select_on]}:
        lacking = "no scream, cry or baby_cry" if not positives else "nothing but sensitive sounds"
        msg = f"{whole.path}: the clips of {config.select_on} hold {lacking}, so no checkpoint can be chosen by them; add others"
        raise ManifestError(msg)
    return validation


def _check_classes(training: Manifest, validation: dict[str, Manifest]) -> None:
    """Tell which labels cannot be learned or measured, and refuse a corpus with nothing sensitive to learn."""
    learned = {MANIFEST_LABELS[row.label] for row in training}
    if not learned & set(SENSITIVE):
        msg = f"{training.path}: split train holds no clip of {', '.join(SENSITIVE)}, so there is nothing to learn to flag; add such clips"
        raise ManifestError(msg)
    if empty := [label for label in LABELS if label not in learned]:
        logger.warning("no clip of %s to train on: the network will not learn to hear it", ", ".join(empty))
    measured = {MANIFEST_LABELS[row.label] for row in validation[VAL]}
    if unmeasured := [label for label in SENSITIVE if label in learned - measured]:
        logger.warning("no clip of %s in split val: it is trained, but checkpoints are chosen without it", ", ".join(unmeasured))


def _fingerprint(manifest: Manifest) -> str:
    """A hash over the names and sizes of the clips' files: cheap, and another where a file was replaced."""
    folder = manifest.path.parent
    listing = "\n".join(f"{row.path.relative_to(folder)} {row.path.stat().st_size}" for row in manifest)
    return hashlib.sha256(listing.encode()).hexdigest()


def clip_logits(tagger: Tagger, manifest: Manifest, pcm: PcmStore) -> NDArray[np.float32]:
    """Clip logits `[clips, labels]`, the windows of two seconds a second apart."""
    return of_clips(window_logits(tagger, manifest, pcm, SAMPLE_RATE_HZ)).astype(np.float32)


def window_logits(tagger: Tagger, manifest: Manifest, pcm: PcmStore, hop_samples: int) -> list[NDArray[np.float32]]:
    """Each clip's logits `[windows, labels]`, heard as a device hears: windows of two seconds, one every `hop_samples`."""
    device = next(tagger.parameters()).device
    windower, clips = Windower(2 * SAMPLE_RATE_HZ, hop_samples), []
    with torch.inference_mode():
        for row in manifest:
            clip = pcm.read(row.index, 0, int(MAX_CLIP_S * SAMPLE_RATE_HZ))
            windows = torch.from_numpy(np.stack([window.samples for window in windower.feed(clip) + windower.flush()]))
            # few at once stay in the cache
            clips.append(np.concatenate([tagger(some.to(device)).clip.cpu().numpy() for some in torch.split(windows, 4)]))
    return clips


def _loader(prepared: Prepared, processes: Processes, examples: Dataset[Any] | None = None) -> Callable[[int], Iterable[Batch]]:
    """One epoch's batches for this process: its own share of each whole batch, other examples than the other processes have."""
    config, dataset = prepared.config, prepared.dataset if examples is None else examples
    size = min(config.batch_size, config.examples_per_epoch // processes.count * processes.count)

    def epoch(number: int) -> Iterator[Batch]:
        first = number * config.examples_per_epoch
        whole = BatchSampler(range(first, first + config.examples_per_epoch), size, drop_last=True)
        mine = BatchSamplerShard(whole, processes.count, processes.index, split_batches=True)
        pinned = processes.device.type == "cuda"
        loader = DataLoader(dataset, batch_sampler=mine, num_workers=prepared.inputs.workers, pin_memory=pinned)
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
    if before.get("clips_sha256") != described["clips_sha256"]:
        msg = f"{out / CONFIG}: clips' files have changed since this run began; resume with that corpus, or start a new run"
        raise CheckpointError(msg)
    write_config(out, {**now, "environment": before["environment"], "resumed": [*before.get("resumed", []), describe_environment()]})


def _fixed(described: dict[str, Any]) -> dict[str, Any]:
    """What may not change when a run is resumed: everything but how long it goes on, and where the corpus lies."""
    train = {f"train.{name}": value for name, value in described["train"].items() if name not in {"minutes", "epochs"}}
    return {
        **train,
        **{name: described.get(name) for name in ("taught_by", "sampling", "leave_out", "licence_tiers", "validated_on", "teachers")},
    }
