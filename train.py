"""Train an Earmark network: argv -> TrainConfig -> fit -> a run folder that `earmark model export` makes a bundle of."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler

from earmark_cli.training import TrainingInputs, beginning, prepare, taught, train
from earmark_model.processes import Processes
from earmark_model.train_config import TrainConfig, sized

app = typer.Typer(add_completion=False)


@app.command()
def main(
    corpus: Annotated[Path, typer.Option(help="Folder with manifest.csv (or the manifest itself).")],
    out: Annotated[Path, typer.Option(help="Run folder: checkpoints, config.json, log.csv, curves.png and tb/ go here.")],
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Stop after this much training time; the schedule fits itself to it.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Stop after this many epochs (60), if minutes have not run out.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda; auto uses a GPU when there is one.")] = "auto",
    precision: Annotated[str, typer.Option(help="float32, or bf16 (mixed: weights stay float32), for GPUs.")] = "float32",
    licence: Annotated[
        list[str] | None, typer.Option(help="Only clips of this licence tier (open, noncommercial, unknown, consented); repeatable.")
    ] = None,
    leave_out: Annotated[list[str] | None, typer.Option(help="Leave out a whole source, to validate on it later; repeatable.")] = None,
    validate_on: Annotated[str, typer.Option(help="val, or left-out: log the left-out sources' figures too.")] = "val",
    select_by: Annotated[
        str, typer.Option(help="What best.pt is chosen by: balanced, triage-recall, triage-auroc or mean-precision.")
    ] = "balanced",
    select_on: Annotated[str, typer.Option(help="What best.pt is chosen on: val, or left-out.")] = "val",
    teachers: Annotated[
        bool | None,
        typer.Option(
            "--teachers/--no-teachers", help="Learn from the taggers' scores in CORPUS/teachers too; by default if they are there."
        ),
    ] = None,
    size: Annotated[
        str,
        typer.Option(
            help="standard; taught: mn04 learns to hear in noise, YAMNet teaches new heads; light: at half its cost; small: at most 128 kB."
        ),
    ] = "standard",
    begin_with: Annotated[
        str, typer.Option(help="Weights of EfficientAT's mn04_as to begin with; auto: CORPUS/teachers/mn04_as.pt if it is there; none.")
    ] = "auto",
    keep: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="With --size taught: this share of every weight of the trunk stays mn04's own (0.35); with more it hears noise less well.",
        ),
    ] = None,
    taught_by: Annotated[
        Path | None,
        typer.Option(help="Follow what this bundle says of every sound while it is clean, in place of the taggers; for light and small."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in OUT.")] = False,
    examples_per_epoch: Annotated[int | None, typer.Option(min=1, help="24,000, or what --size says.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Examples in a step, over all processes (48).")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare examples, for each one that trains.")] = 1,
) -> None:
    """Train on a labelled corpus: `python train.py --corpus ../shared/corpus --out runs/first --minutes 60`.

    Ctrl-C keeps the work; the same command with --resume goes on. Afterwards: `earmark model export runs/first --out my-bundle`.
    On several GPUs, or processes: `torchrun --nproc-per-node 2 train.py ...`, with the same options.
    """
    tell, together = os.environ.get("RANK", "0") == "0", "WORLD_SIZE" in os.environ  # torchrun's
    handler = RichHandler(console=Console(stderr=True), show_path=False)
    logging.basicConfig(level=logging.INFO if tell else logging.ERROR, format="%(message)s", handlers=[handler])
    for stop in (signal.SIGINT, signal.SIGTERM):  # a service manager's stop keeps the work as Ctrl-C does
        signal.signal(stop, signal.default_int_handler)
    try:
        given = {"epochs": epochs, "minutes": minutes, "examples_per_epoch": examples_per_epoch, "batch_size": batch_size}
        asked = {name: value for name, value in given.items() if value is not None}
        config = TrainConfig(
            **{**sized(size, keep), **asked, "seed": seed, "precision": precision, "select_by": select_by, "select_on": select_on}
        )
        inputs = TrainingInputs(
            corpus,
            out,
            tuple(licence or ()),
            tuple(leave_out or ()),
            taught(teachers, corpus),
            workers,
            validate_on,
            beginning(begin_with, corpus),
            taught_by,
        )
        processes = Processes(device, precision)
        progression = train(processes.main_first(lambda: prepare(inputs, config, processes, resume=resume)), processes, resume=resume)
        processes.close()
    except KeyboardInterrupt:
        for stop in (signal.SIGINT, signal.SIGTERM):  # torchrun sends another; the work is saved already
            signal.signal(stop, signal.SIG_IGN)
        again = "the same torchrun command with" if together else f"python {' '.join(w for w in sys.argv if w != '--resume')}"
        sys.stderr.write(f"interrupted; the work is kept in {out}. Go on with: {again} --resume\n" if tell else "")
        raise typer.Exit(1) from None
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n" if tell else "")
        raise typer.Exit(1) from None
    spent = f"{progression.epoch} epochs, {progression.seconds / 60:.1f} minutes"
    sys.stdout.write(f"done: {spent}, best selection {progression.best:.3f}, in {out}\n" if tell else "")


if __name__ == "__main__":
    app()
