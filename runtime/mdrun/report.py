"""What a person reads on the terminal: progress, summary, tables."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mdrun.manifest import InputSpec, Manifest
from mdrun.pipeline import RunReport

POINTS = ("p50", "p95", "p99", "max")


@contextmanager
def progress_bar(total: int | None) -> Iterator[Callable[[int], None] | None]:
    """A bar on stderr that is told how many pairs are done; None where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("pairs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("pairs", total=total)
        yield lambda pairs: bar.advance(task, pairs)


def print_report(report: RunReport) -> None:
    """Frames, objects, percentiles and files of a finished run."""
    console, summary = _console(), report.summary
    console.print(_counts_table(summary))
    console.print(_stages_table(summary))
    for path in report.paths:
        console.print(f"wrote {path}{'/' if path.is_dir() else ''}", soft_wrap=True)
    if summary["stopped_by"] is not None:
        console.print(f"stopped by {summary['stopped_by']}; the files hold everything up to then")


def print_manifest(path: Path, manifest: Manifest) -> None:
    """An engine's manifest as a table; `--json` has all of it."""
    table = _table("engine", manifest.name)
    origin = manifest.origin
    rows = {
        "file": f"{path} ({path.stat().st_size / 1e6:.1f} MB)",
        "task": manifest.task,
        "classes": ", ".join(manifest.classes),
        "needs": " and ".join(manifest.needs),
        **{f"input {name}": _input(spec) for name, spec in manifest.inputs.items()},
        **{
            f"output {name}": f"{spec.dtype} {_shape(spec.shape)}, {spec.meaning}"
            for name, spec in manifest.outputs.items()
        },
        **_thresholds(manifest),
        "precision": f"{origin.precision or 'not stated'}, opset {origin.opset or 'not stated'}",
        "accuracy": _accuracy(origin.accuracy),
        "data": "; ".join(origin.data),
        "licence": origin.licence,
        "made by": origin.command,
        "checkpoint": origin.checkpoint_sha256[:16],
        "parity": _parity(manifest),
        "digest": manifest.digest(),
    }
    for name, value in rows.items():
        table.add_row(name, value)
    _console().print(table)


def print_models(models: list[dict[str, Any]]) -> None:
    """The shipped engines, one row each."""
    if not models:
        _console().print("no engine ships with this mdrun; give --engine FILE, made by `mdexport onnx`")
        return
    for model in models:
        table = _table(model["name"], model["task"])
        table.add_row("labels" if model["task"] == "segment" else "finds", ", ".join(model["classes"]))
        table.add_row("needs", " + ".join(model["needs"]))
        table.add_row("size", f"{model['bytes'] / 1e6:.1f} MB")
        table.add_row("accuracy", _accuracy(model["accuracy"]))
        table.add_row("licence", model["licence"])
        _console().print(table)


def _console() -> Console:
    return Console(highlight=False, markup=False)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        table.add_column(column)
    return table


def _counts_table(summary: dict[str, Any]) -> Table:
    captured, skew = summary["captured"], summary["skew_ms"]
    table = _table("pairs", summary["engine"])
    table.add_row("captured", f"{captured['visible']} visible, {captured['thermal']} thermal")
    table.add_row("results", str(summary["results"]))
    table.add_row("dropped", _pairs(summary["drops"]) or "none")
    table.add_row("thermal", _pairs(summary["thermal_provenance"]) or "none")
    if skew is not None:
        table.add_row("skew", f"p50 {skew['p50']:.1f} ms, p95 {skew['p95']:.1f} ms, p99 {skew['p99']:.1f} ms")
    if summary["objects"]:
        table.add_row("objects", _pairs(summary["objects"]))
    if summary["areas"] is not None:
        table.add_row("mean areas", _areas(summary["areas"]))
    table.add_row("speed", f"{summary['fps']:.1f} pairs/s" if summary["fps"] else "none")
    if summary["sink_drops"]:
        table.add_row("not written", _pairs(summary["sink_drops"]))
    return table


def _stages_table(summary: dict[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("stage, ms", no_wrap=True)
    for point in POINTS:
        table.add_column(point, justify="right")
    for stage, values in summary["stages_ms"].items():
        if values is not None:
            table.add_row(stage, *(f"{values[point]:.2f}" for point in POINTS))
    return table


def _pairs(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in values.items())


def _accuracy(scores: dict[str, float]) -> str:
    """Every score, or the means where there are any: label maps come with sixty, `SET/CLASS/…` each."""
    means = {name: value for name, value in scores.items() if "mean" in name.split("/")}
    return f"{_pairs(means)}; by class: --json" if means else _pairs(scores)


def _areas(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {100 * share:.3g} %" for name, share in shares.items() if share > 0)


def _thresholds(manifest: Manifest) -> dict[str, str]:
    """The row of a detector; label maps have no scores."""
    limits = manifest.thresholds
    if manifest.task == "segment":
        return {}
    return {"thresholds": f"report {limits.report:g}, display {limits.display:g}, NMS IoU {limits.nms_iou:g}"}


def _shape(shape: list[int]) -> str:
    return "x".join(map(str, shape))


def _input(spec: InputSpec) -> str:
    rule = f", {spec.normalisation}" if spec.normalisation else ""
    return f"{spec.dtype} {spec.width}x{spec.height} {spec.layout} {spec.colour_order}{rule}"


def _parity(manifest: Manifest) -> str:
    parity = manifest.parity
    if parity is None:
        return "not measured"
    verdict = "passed" if parity.passed else "failed"
    return (
        f"{verdict} on {parity.pairs} pairs of {parity.data}: {_pairs(parity.max_abs)} (limits {_pairs(parity.limits)})"
    )
