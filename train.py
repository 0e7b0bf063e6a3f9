"""Train an Earmark network: argv -> TrainConfig -> fit -> a run folder that `earmark model export` makes a bundle of."""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.logging import RichHandler

from earmark_cli.training import TrainingInputs, prepare, train
from earmark_model.fit import TrainConfig

app = typer.Typer(add_completion=False)


@app.command()
def main(
    corpus: Annotated[Path, typer.Option(help="Folder with manifest.csv (or the manifest itself).")],
    out: Annotated[Path, typer.Option(help="Run folder: checkpoints, log.csv and config.json go here.")],
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Stop after this much training time; the schedule fits itself to it.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Stop after this many epochs, if minutes have not run out.")] = 60,
    seed: Annotated[int, typer.Option(min=0)] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda; auto uses a GPU when there is one.")] = "auto",
    licence: Annotated[
        list[str] | None, typer.Option(help="Only clips of this licence tier (open, noncommercial, unknown); repeatable.")
    ] = None,
    leave_out: Annotated[list[str] | None, typer.Option(help="Leave out a whole source, to validate on it later; repeatable.")] = None,
    teachers: Annotated[bool, typer.Option(help="Learn from the taggers' scores in CORPUS/teachers too.")] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in OUT.")] = False,
    examples_per_epoch: Annotated[int, typer.Option(min=1)] = 24_000,
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare examples.")] = 1,
) -> None:
    """Train on a labelled corpus: `python train.py --corpus ../shared/corpus --out runs/first --minutes 60`.

    Ctrl-C keeps the work; the same command with --resume goes on. Afterwards: `earmark model export runs/first --out my-bundle`.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[RichHandler(show_path=False)])
    for stop in (signal.SIGINT, signal.SIGTERM):  # a service manager's stop keeps the work as Ctrl-C does
        signal.signal(stop, signal.default_int_handler)
    try:
        inputs = TrainingInputs(corpus, out, device, tuple(licence or ()), tuple(leave_out or ()), teachers, workers)
        config = TrainConfig(seed=seed, epochs=epochs, minutes=minutes, examples_per_epoch=examples_per_epoch)
        prepared = prepare(inputs, config, resume=resume)
        progression = train(prepared, resume=resume)
    except KeyboardInterrupt:
        again = " ".join(word for word in sys.argv if word != "--resume")
        sys.stderr.write(f"interrupted; the work is kept in {out}. Go on with: python {again} --resume\n")
        raise typer.Exit(1) from None
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(1) from None
    minutes_spent = progression.seconds / 60
    sys.stdout.write(f"done: {progression.epoch} epochs, {minutes_spent:.1f} minutes, best selection {progression.best:.3f}, in {out}\n")


if __name__ == "__main__":
    app()
