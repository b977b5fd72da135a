"""Accuracy against latency of trained students, one picture and one table: which network is worth its time?

python -m benchmarks.accuracy_latency runs/nano/weights.safetensors runs/slim/weights.safetensors --output runs/plot.png

Every student is exported and run by ONNX Runtime on this machine. Rounds visit all students in random order, so that
a disturbance hits all alike; accuracy is what the run measured on its own validation pairs.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

from mdexport.onnx_export import export_onnx
from mdrun.command import run_command
from mdrun.engine import Engine
from mdrun.errors import UsageError
from mdtrain.build import load_trained
from mdtrain.outputs import result_file
from mdtrain.tasks import make_task

STREET = "test://street?seed=11&time=night&duration=1"  # pairs of the exports' parity check
WARM_UP = 3


class Point(NamedTuple):
    """One student.

    Attributes:
        name: folder of its run.
        measure: what accuracy means.
        accuracy: on its validation pairs, in [0, 1].
        parameters: of the network.
        p50_ms, p95_ms: of a pair, resizing and finishing included.
        megabytes: of the engine's file.
    """

    name: str
    measure: str
    accuracy: float
    parameters: int
    p50_ms: float
    p95_ms: float
    megabytes: float


@click.command()
@click.argument("weights", nargs=-1, type=click.Path(path_type=Path), required=True)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="PNG; a .json and a .md lie beside it.")
@click.option("--rounds", type=click.IntRange(min=1), default=60, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True, help="CPU threads of an engine.")
def compare(weights: tuple[Path, ...], output: Path, rounds: int, threads: int) -> None:
    """Measure every student and draw them."""
    with result_file(output), tempfile.TemporaryDirectory() as folder:
        engines = [_export(path, Path(folder) / f"{index}.onnx", threads) for index, path in enumerate(weights)]
        points = [_point(path, *rest) for path, rest in zip(weights, _measure(engines, rounds), strict=True)]
        if len({point.measure for point in points}) > 1:
            raise UsageError("the students are judged by different measures; compare those of one task and one set")
        _draw(points, output)
        output.with_suffix(".json").write_text(json.dumps([point._asdict() for point in points], indent=2))
        table = _table(points)
        output.with_suffix(".md").write_text(table)
    click.echo(table)


def _export(weights: Path, path: Path, threads: int) -> Engine:
    export_onnx(weights, path, STREET, STREET, 1)
    return Engine.load(path, threads=threads)


def _measure(engines: list[Engine], rounds: int) -> list[tuple[np.ndarray, float]]:
    """Milliseconds of every round and megabytes, engine by engine."""
    rng = np.random.default_rng(0)
    visible = rng.integers(0, 256, (1024, 1280, 3), dtype=np.uint8)
    thermal = rng.integers(0, 256, (120, 160), dtype=np.uint8)
    times: list[list[float]] = [[] for _ in engines]
    order = list(range(len(engines)))
    for turn in range(WARM_UP + rounds):
        random.Random(turn).shuffle(order)  # noqa: S311  # no secret
        for index in order:
            began = time.perf_counter()
            engines[index].run_timed(visible, thermal if engines[index].takes_thermal else None)
            if turn >= WARM_UP:
                times[index].append(1e3 * (time.perf_counter() - began))
    return [(np.array(t), e.path.stat().st_size / 1e6) for t, e in zip(times, engines, strict=True)]


def _point(weights: Path, milliseconds: np.ndarray, megabytes: float) -> Point:
    trained = load_trained(weights, "student")
    first = make_task(trained.config).measures[0]
    measure = next(name for name in trained.facts["accuracy"] if name.partition("/")[2] == first)
    return Point(
        weights.parent.name,
        measure,
        float(trained.facts["accuracy"][measure]),
        sum(p.numel() for p in trained.model.parameters()),
        float(np.percentile(milliseconds, 50)),
        float(np.percentile(milliseconds, 95)),
        megabytes,
    )


def _table(points: list[Point]) -> str:
    lines = [f"| student | {points[0].measure} | p50 ms | p95 ms | parameters | MB |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {p.name} | {p.accuracy:.3f} | {p.p50_ms:.1f} | {p.p95_ms:.1f} "
        f"| {p.parameters / 1e6:.2f} M | {p.megabytes:.1f} |"
        for p in points
    ]
    return "\n".join([*lines, ""])


def _draw(points: list[Point], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 4), layout="constrained")
    axis.scatter([p.p50_ms for p in points], [p.accuracy for p in points], s=[12 * p.megabytes for p in points])
    for point in points:
        axis.annotate(point.name, (point.p50_ms, point.accuracy), xytext=(6, 4), textcoords="offset points", fontsize=8)
    axis.margins(0.25)
    axis.set(xscale="log", xlabel="milliseconds a pair, p50", ylabel=points[0].measure)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter("{x:g}")
    axis.grid(visible=True, which="both", alpha=0.3)
    figure.savefig(path, dpi=130, format="png")
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(run_command(compare, "accuracy_latency"))
