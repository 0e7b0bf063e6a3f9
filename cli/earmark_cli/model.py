"""`earmark model`: export and measure models. The work is in modules that load torch, which only these commands wait for."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from earmark_cli.consent_record import warn
from earmark_model import consents

app = typer.Typer(no_args_is_help=True)


@app.callback()
def group() -> None:
    """Export and measure models."""


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="The --out folder of train.py.")],
    out: Annotated[Path, typer.Option(help="Folder for the bundle; a bundle that is there is replaced only if the new one passes.")],
    corpus: Annotated[Path | None, typer.Option(help="The corpus that the run was trained on; by default where it was then.")] = None,
    keep: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the weights that training began with to keep; by default the run's.")
    ] = None,
    teacher_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the teacher head in sensitive scores; by default the run's.")
    ] = None,
) -> None:
    """Write a bundle, calibrated on the validation split; refused unless onnxruntime agrees with torch."""
    bundling = importlib.import_module("earmark_cli.bundling")
    try:
        report = bundling.export_run(run, out, corpus, keep=keep, teacher_share=teacher_share)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(1) from None
    sys.stdout.write(
        f"{out}: torch and onnxruntime agree on {report.inputs} inputs of {report.lengths} lengths; largest difference: "
        f"clips {report.clip_difference:.1e}, frames {report.frame_difference:.1e}, allowed {bundling.TOLERANCE:.0e}\n"
    )


@app.command()
def renew(
    bundle: Annotated[Path, typer.Argument(help="A bundle of schema 1, whose training run may be gone.")],
    out: Annotated[Path, typer.Option(help="Folder for the bundle of schema 2; may be the same.")],
) -> None:
    """Write an older bundle in the form of today's exports, which costs a device less; refused unless it scores the same."""
    restore = importlib.import_module("earmark_model.restore")
    try:
        report = restore.renewed(bundle, out)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(1) from None
    sys.stdout.write(
        f"{out}: scores as before on {report.inputs} inputs of {report.lengths} lengths; largest difference: "
        f"clips {report.clip_difference:.1e}, frames {report.frame_difference:.1e}\n"
    )


@app.command()
def evaluate(
    models: Annotated[
        list[Path], typer.Argument(metavar="BUNDLE...", help="A bundle's folder; with --leave-out also training runs, several.")
    ],
    manifest: Annotated[Path, typer.Argument(help="manifest.csv with labelled clips.")],
    split: Annotated[str, typer.Option(help="train, val or test. Look at test once for each result that you report.")] = "test",
    licence: Annotated[list[str] | None, typer.Option(help="Only clips of this licence tier; repeatable.")] = None,
    source: Annotated[list[str] | None, typer.Option(help="Only clips of this source; repeatable.")] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(help="Measure this source, of every split, by the model that was trained without it; repeatable, or 'all'."),
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(help="yamnet or mn04 (run from the weights in the corpus) on the same clips; repeatable."),
    ] = None,
    robustness: Annotated[bool, typer.Option("--robustness", help="Also quieter, in noise, babble and rooms, and through codecs.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for one page (evaluation.html, or left-out.html), its JSON and pictures.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    write_card: Annotated[bool, typer.Option("--write-card", help="Write the table into the bundle's CARD.md.")] = False,
) -> None:
    """Score every clip of a split as a device would: average precision, AUROC, recall at 1 % false positives, triage.

    Sources that training left out: `earmark model evaluate runs/a runs/b manifest.csv --leave-out all`, each source by the
    run that never heard it, beside the peers' recorded scores, or beside those given with --peer, which hear the clips themselves.
    A model of one licence tier never heard the sources of the others: `earmark model evaluate BUNDLE manifest.csv --leave-out all`.
    """
    if leave_out:
        if source or robustness or write_card:
            sys.stderr.write("error: --leave-out measures whole sources: it goes with --licence, --peer, --out and --json, and no other\n")
            raise typer.Exit(2)
        _evaluate_left_out(models, manifest, leave_out, peer, tuple(licence or ()), out, as_json=as_json)
        return
    if len(models) != 1:
        sys.stderr.write("error: evaluate takes one bundle and one manifest; several models only with --leave-out\n")
        raise typer.Exit(2)
    run = importlib.import_module("earmark_cli.evaluation_run")
    report = importlib.import_module("earmark_cli.evaluation_report")
    try:
        warn(models[0])
        request = run.Request(
            models[0], manifest, split, tuple(licence or ()), tuple(source or ()), tuple(peer or ()), robustness=robustness
        )
        result = run.evaluate(request)
        if out:
            report.write_report(result, out)
        if write_card:
            report.write_card(result)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(1) from None
    if as_json:
        sys.stdout.write(json.dumps(result.to_json()) + "\n")
        return
    report.print_result(result)
    if out:
        sys.stdout.write(f"{out}: {report.PAGE_FILE}, {report.JSON_FILE} and pictures\n")


def _evaluate_left_out(
    models: list[Path],
    manifest: Path,
    sources: list[str],
    peers: list[str] | None,
    licence_tiers: tuple[str, ...],
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    left_out = importlib.import_module("earmark_cli.leave_out")
    try:
        figures = left_out.evaluate_left_out(models, manifest, sources, peers, licence_tiers)
        if out:
            importlib.import_module("earmark_cli.leave_out_page").write_left_out(figures, out)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(1) from None
    if as_json:
        sys.stdout.write(json.dumps(asdict(figures)) + "\n")
    else:
        importlib.import_module("earmark_cli.leave_out_table").print_left_out(figures)


@app.command()
def guarantee(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder; its thresholds are rewritten.")],
    manifest: Annotated[Path, typer.Argument(help="manifest.csv with labelled clips in groups.")],
    alpha: Annotated[float, typer.Option(help="The largest miss rate that is accepted, between 0 and 1.")] = 0.05,
    delta: Annotated[float, typer.Option(help="The probability of promising too much that is accepted, between 0 and 1.")] = 0.05,
    label: Annotated[
        list[str] | None, typer.Option(help="Only this label, or triage (any sensitive sound); repeatable. By default all that can be.")
    ] = None,
    split: Annotated[str, typer.Option(help="val or test; train only for clips that the bundle was not trained on.")] = "val",
    licence: Annotated[list[str] | None, typer.Option(help="Only clips of this licence tier; repeatable.")] = None,
    unit: Annotated[
        str, typer.Option(help="drawn: one clip speaks for its group; worst: a group is missed if any of its clips is.")
    ] = "drawn",
    validity: Annotated[Path | None, typer.Option(help="Also show that the promise holds: the PNG to draw.")] = None,
    rounds: Annotated[int, typer.Option(help="Resamplings for --validity.", min=1)] = 500,
    may_replace: Annotated[bool, typer.Option("--replace", help="Give up a better guarantee that the bundle already states.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be promised, and its price; leave the bundle as it is.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of sentences.")] = False,
) -> None:
    """Set thresholds that bound the share of missed sounds: P(miss rate > alpha) <= delta, and print what that costs.

    The thresholds are the highest that a fixed-sequence test with exact binomial bounds allows, one unit for each group of clips
    (Learn then Test). At 5 % and 95 % confidence that takes 59 groups with no miss, 93 with one, 124 with two. The promise speaks
    of groups drawn like these, not of other collections.
    """
    work = importlib.import_module("earmark_cli.guarantee")
    report = importlib.import_module("earmark_cli.guarantee_report")
    try:
        warn(bundle)
        request = work.Request(bundle, manifest, alpha, delta, tuple(label or ()), split, tuple(licence or ()), unit, may_replace)
        outcome = work.guarantee_bundle(request)
        trials = report.show_validity(outcome, validity, rounds) if validity else {}
        if not dry_run:
            work.write(outcome)
    except work.MisuseError as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(2) from None
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(1) from None
    if as_json:
        sys.stdout.write(json.dumps(report.as_json(outcome, trials)) + "\n")
        return
    report.print_outcome(outcome)
    report.print_validity(trials)
    sys.stdout.write(f"{bundle}: {'left as it was' if dry_run else 'thresholds, guarantees and card written'}\n")


@app.command()
def withdraw(
    models: Annotated[list[Path], typer.Argument(help="Bundles and runs, wherever they were copied to.", metavar="MODEL...")],
    mark: Annotated[Path, typer.Option(help="The folder that has the mark: an export of verdicts with its withdrawn.json.")],
) -> None:
    """Mark the models that rest on clips to which a household withdrew its consent; exit status 1 where one does.

    The review service marks the exports that it knows, and what was made of them, by itself. This is for models elsewhere.
    """
    try:
        marks = consents.read_marks(mark)
        if not marks:
            sys.stderr.write(f"error: {mark}: no {consents.WITHDRAWN_FILE} there; give the folder of an export that a withdrawal marked\n")
            raise typer.Exit(2)
        found = {model: consents.withdraw(model, marks) for model in models}
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(1) from None
    for model, records in found.items():
        told = (
            f"marked: {records} of its records of consent were withdrawn" if records else "not concerned: it rests on none of these records"
        )
        sys.stdout.write(f"{model}: {told}\n")
    raise typer.Exit(1 if any(found.values()) else 0)


@app.command()
def bench(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.")],
    peer: Annotated[str | None, typer.Option(help="yamnet: measure it beside, in the same run.")] = None,
    rounds: Annotated[int, typer.Option(help="How often each contender is timed.", min=1)] = 40,
    out: Annotated[Path | None, typer.Option(help="Folder for bench.json and bench.md.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure what a bundle costs on one thread: milliseconds per second of audio, size, peak memory, multiply-adds, and ratios."""
    work = importlib.import_module("earmark_cli.bench")
    report = importlib.import_module("earmark_cli.bench_report")
    try:
        warn(bundle)
        found = work.measure(bundle, peer, rounds=rounds)
        if out:
            out.mkdir(parents=True, exist_ok=True)
            (out / "bench.json").write_text(json.dumps(report.as_json(found), indent=2) + "\n", encoding="utf-8")
            (out / "bench.md").write_text(report.markdown(found), encoding="utf-8")
    except (ValueError, OSError, RuntimeError) as error:
        sys.stderr.write(f"error: {error}\n")
        raise typer.Exit(1) from None
    if as_json:
        sys.stdout.write(json.dumps(report.as_json(found)) + "\n")
    else:
        report.print_bench(found)
