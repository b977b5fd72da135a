"""What a person reads about a run: progress and summary."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from mdrun.pipeline import RunReport
from mdrun.tables import join_drops, join_values, make_console, make_table

if TYPE_CHECKING:
    from mdrun.rig.run import RigReport

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
    console, summary = make_console(), report.summary
    console.print(_counts_table(summary))
    console.print(_stages_table(summary))
    for path in report.paths:
        console.print(f"wrote {path}{'/' if path.is_dir() else ''}", soft_wrap=True)
    if summary["stopped_by"] is not None:
        console.print(f"stopped by {summary['stopped_by']}; the files hold everything up to then")


def print_rig_report(report: RigReport, *, aside: bool = False) -> None:
    """Frames, engines, percentiles, outputs and files of a rig that has stopped.

    `aside`: on stderr, for results go to stdout.
    """
    console, summary = make_console(stderr=aside), report.summary
    console.print(_rig_table(summary))
    console.print(_stages_table({"stages_ms": summary["stages_ms"] | {"capture to result": summary["latency_ms"]}}))
    for path in report.paths:
        console.print(f"wrote {path}", soft_wrap=True)


def _rig_table(summary: dict[str, Any]) -> Table:
    captured, skew = summary["captured"], summary["skew_ms"]
    table = make_table("rig", summary["rig"])
    for engine in summary["ladder"]["engines"]:
        table.add_row("engine", f"{engine['name']}, {_library(engine)}")
    table.add_row("captured", f"{captured['visible']} visible, {captured['thermal']} thermal")
    table.add_row("results", str(summary["results"]))
    table.add_row("dropped", join_drops(summary["cameras"]) or "none")
    table.add_row("thermal", join_values(summary["thermal_provenance"]) or "none")
    for role, camera in summary["cameras"].items():
        fps = "" if camera["fps"] is None else f", {camera['fps']:g} frames/s"
        table.add_row(role, f"{camera['name']}: {camera['state']}{fps}, {camera['reconnects']} reconnects")
    if skew is not None:
        table.add_row("skew", f"p50 {skew['p50']:.1f} ms, p95 {skew['p95']:.1f} ms, p99 {skew['p99']:.1f} ms")
    for step in summary["ladder"]["transitions"]:
        table.add_row("switched", f"{step['from']} to {step['to']}, {step['reason']}: {step['count']}")
    if summary["objects"]:
        table.add_row("objects", join_values(summary["objects"]))
    for name, sink in summary["sinks"].items():
        counts = ", ".join(f"{sink[key]} {key}" for key in ("written", "dropped", "errors", "lost"))
        table.add_row("output", f"{name}: {counts}")
    table.add_row("speed", f"{summary['fps']:.1f} results/s" if summary["fps"] else "none")
    return table


def _library(facts: dict[str, Any]) -> str:
    """The library that runs an engine, where, and why it is this one."""
    return f"{facts['backend']} on {facts['device']} ({facts['backend_reason']})"


def _counts_table(summary: dict[str, Any]) -> Table:
    captured, skew = summary["captured"], summary["skew_ms"]
    table = make_table("pairs", summary["engine"])
    table.add_row("engine library", _library(summary))
    table.add_row("captured", f"{captured['visible']} visible, {captured['thermal']} thermal")
    table.add_row("results", str(summary["results"]))
    table.add_row("dropped", join_values(summary["drops"]) or "none")
    table.add_row("thermal", join_values(summary["thermal_provenance"]) or "none")
    if skew is not None:
        table.add_row("skew", f"p50 {skew['p50']:.1f} ms, p95 {skew['p95']:.1f} ms, p99 {skew['p99']:.1f} ms")
    if summary["objects"]:
        table.add_row("objects", join_values(summary["objects"]))
    if summary["areas"] is not None:
        table.add_row("mean areas", _areas(summary["areas"]))
    table.add_row("speed", f"{summary['fps']:.1f} pairs/s" if summary["fps"] else "none")
    if summary["sink_drops"]:
        table.add_row("not written", join_values(summary["sink_drops"]))
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


def _areas(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {100 * share:.3g} %" for name, share in shares.items() if share > 0)
