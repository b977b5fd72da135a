"""`mdexport check`: engines of one network against what they were made from."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mdexport.commands.options import FILE, json_option, list_option, pairs_option, reason_of, with_hint
from mdrun.command import warn
from mdrun.errors import UsageError
from mdtrain.commands.labelled import labels_option

if TYPE_CHECKING:
    from mdexport.check import Report, Verdict

# ruff: noqa: PLC0415  # libraries load when a command runs, not for --help


@click.command(
    epilog="Examples: mdexport check student/ --pairs DATA/msrs, "
    "mdexport check student.onnx student_int8.onnx --pairs DATA/msrs --picture check.jpg"
)
@click.argument("engines", type=FILE, nargs=-1, required=True)
@pairs_option
@list_option
@labels_option
@click.option("--checkpoint", type=FILE, help="weights.safetensors to compare with. [default: the FP32 engine]")
@click.option("--picture", type=FILE, help="JPEG to draw: a few scenes through every engine.")
@click.option(
    "--backend",
    metavar="NAME",
    default="auto",
    help="Engine library, see `mdrun doctor`. [default: the best that is there]",
)
@click.option("--record", is_flag=True, help="Write the result of each plan that ran into its manifest.")
@click.option(
    "--accept",
    metavar="REASON",
    callback=reason_of,
    help="With --record: take plans that do not pass; the reason goes into their manifests.",
)
@json_option
def check(
    engines: tuple[Path, ...],
    pairs: str,
    split: str,
    labels: str | None,
    checkpoint: Path | None,
    picture: Path | None,
    backend: str,
    accept: str | None,
    *,
    record: bool,
    as_json: bool,
) -> None:
    """Run the same pairs through engines of one network, files, folders or names of `mdrun models`, and compare."""
    from mdexport import check as checking
    from mdexport.bundle import refuse_failing
    from mdexport.pairs import parse_pairs
    from mdexport.picture import draw_check
    from mdexport.places import JPEG_SUFFIXES, refuse_replacing, refuse_suffix, writing
    from mdtrain.outputs import result_file

    if accept is not None and not record:
        raise UsageError(
            "got --accept without --record, wanted both: it is written into the manifests of plans; add --record "
            "(an ONNX file is accepted when it is exported)"
        )
    found, judges = checking.find_engines(engines), parse_pairs(pairs, labels)
    if picture is not None:
        refuse_suffix(picture, JPEG_SUFFIXES, "--picture")
        refuse_replacing(picture, *found, judges.folder)
    with nullcontext() if picture is None else result_file(picture):
        checked = checking.check_engines(found, judges, split, checkpoint, backend=backend, accept=accept)
        if picture is not None:
            with writing(picture, "--picture"):
                draw_check(checked, picture)
    show_report(checked.report, as_json=as_json)
    if picture is not None:
        click.echo(f"{picture}: a few scenes through every engine", err=as_json)
    if record:
        recorded = checking.record(found, checked.report)
        for path in recorded:
            click.echo(f"{path}: its manifest has the result now", err=as_json)
        if not recorded:
            warn("mdexport", "--record: no plan was run, so no manifest was changed")
    refuse_failing(checked.report)


def show_report(report: Report, *, as_json: bool) -> None:
    """One row an engine."""
    if as_json:
        click.echo(report.to_json())
        return
    from mdexport.gate import describe
    from mdtrain.commands.shown import print_turned, shown

    measures = sorted({name for v in report.verdicts if v.parity for name in v.parity.metrics}, reverse=True)
    rows = []
    for verdict in report.verdicts:
        parity = verdict.parity
        changes = [parity.metrics.get(name) if parity else None for name in measures]
        rows.append(
            [
                verdict.name,
                f"{verdict.megabytes:.1f}",
                verdict.backend or "not run",
                shown(verdict.median_ms, "{:.1f}"),
                *(shown(change.engine if change else None, "{:.4f}") for change in changes),
                shown(parity.matched if parity else None, "{:.1%}"),
                *(shown(parity.max_abs.get(name) if parity else None, "{:.2g}") for name in ("scores", "labels")),
                _word(verdict),
            ]
        )
    columns = ["engine", "MB", "backend", "ms", *measures, "found again", "scores ±", "labels ±", "verdict"]
    checked = {verdict.name for verdict in report.verdicts}
    never_made = [missing.name for missing in report.missing if missing.name not in checked]
    rows += [[name, *["-"] * (len(columns) - 2), "missing"] for name in never_made]
    keep = [index for index in range(len(columns)) if any(row[index] != "-" for row in rows)]
    print_turned(
        f"{report.scenes} scenes of {report.data} against {report.reference}",
        [columns[index] for index in keep],
        [[row[index] for index in keep] for row in rows],
    )
    for verdict in report.verdicts:
        if verdict.reason:
            click.echo(f"{verdict.name} was not run: {verdict.reason}")
            if verdict.doubt is not None:
                click.echo(f"{verdict.name}: not verified: {verdict.doubt}")
    passed = [verdict for verdict in report.verdicts if verdict.parity is not None and verdict.parity.passed]
    for doubt in dict.fromkeys(verdict.doubt for verdict in passed if verdict.doubt is not None):
        click.echo(with_hint(str(doubt)))
    for verdict in report.verdicts:
        if verdict.fails and verdict.parity is not None:
            click.echo(f"{verdict.name} failed: {describe(verdict.parity)}")
    for missing in report.missing:
        click.echo(f"{missing.name} is missing: {missing.reason}")


def _word(verdict: Verdict) -> str:
    """What the last column says of an engine."""
    if verdict.parity is None:
        return "-"
    if verdict.parity.passed:
        if verdict.doubt is None:
            return "passed"
        return "proves nothing" if str(verdict.doubt).endswith("prove nothing") else "not verified"
    return "failed" if verdict.accepted is None else f"accepted: {' '.join(verdict.accepted.split())}"
