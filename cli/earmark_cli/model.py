"""`earmark model`: export and measure models. The work is in modules that load torch, which only these commands wait for."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)


@app.callback()
def group() -> None:
    """Export and measure models."""


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="The --out folder of train.py.")],
    out: Annotated[Path, typer.Option(help="Folder for the bundle; a bundle that is there is replaced only if the new one passes.")],
    corpus: Annotated[Path | None, typer.Option(help="The corpus that the run was trained on; by default where it was then.")] = None,
) -> None:
    """Write a bundle, calibrated on the validation split; refused unless onnxruntime agrees with torch."""
    bundling = importlib.import_module("earmark_cli.bundling")
    try:
        report = bundling.export_run(run, out, corpus)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(1) from None
    sys.stdout.write(
        f"{out}: torch and onnxruntime agree on {report.inputs} inputs of {report.lengths} lengths; largest difference: "
        f"clips {report.clip_difference:.1e}, frames {report.frame_difference:.1e}, allowed {bundling.TOLERANCE:.0e}\n"
    )


@app.command()
def evaluate(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.")],
    manifest: Annotated[Path, typer.Argument(help="manifest.csv with labelled clips.")],
    split: Annotated[str, typer.Option(help="train, val or test. Look at test once for each result that you report.")] = "test",
    licence: Annotated[list[str] | None, typer.Option(help="Only clips of this licence tier; repeatable.")] = None,
    source: Annotated[list[str] | None, typer.Option(help="Only clips of this source; repeatable.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    write_card: Annotated[bool, typer.Option("--write-card", help="Write the table into the bundle's CARD.md.")] = False,
) -> None:
    """Score every clip of a split as a device would: average precision, AUROC, recall at 1 % false positives, triage."""
    evaluation = importlib.import_module("earmark_cli.evaluation")
    try:
        figures = evaluation.evaluate_bundle(bundle, manifest, split, licence, source)
        if write_card:
            evaluation.write_card(bundle, figures, split)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(1) from None
    if as_json:
        sys.stdout.write(json.dumps(asdict(figures)) + "\n")
    else:
        evaluation.print_figures(figures, f"{bundle.name} on {manifest.name}, split {split}")
