"""Accuracy against latency of trained students, one picture and one table: which network is worth its time?

python -m benchmarks.accuracy_latency runs/nano/weights.safetensors runs/slim/weights.safetensors --output runs/plot.png

Every student is exported and run by ONNX Runtime on this machine. Rounds visit all students in random order, so that
a disturbance hits all alike; accuracy is what the run measured on its own validation pairs. ONNX files of other
projects are timed in the same rounds (`--peer`), their graph alone: a student's time has resizing and boxes in it.
"""

from __future__ import annotations

import json
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import onnx

from mdexport.onnx_export import export_onnx
from mdrun.backends.ort import import_onnxruntime
from mdrun.command import run_command
from mdrun.engine import Engine
from mdrun.errors import UsageError
from mdtrain.build import load_trained
from mdtrain.outputs import result_file
from mdtrain.tasks import make_task

STREET = "test://street?seed=11&time=night&duration=1"  # pairs of the exports' parity check
WARM_UP = 3
Step = Callable[[], object]


class Point(NamedTuple):
    """One student.

    Attributes:
        name: folder of its run.
        measure: what accuracy means.
        accuracy: on its validation pairs, in [0, 1]; NaN of a peer.
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
@click.option("--peer", "peers", multiple=True, type=click.Path(path_type=Path), help="ONNX file of another project.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="PNG; a .json and a .md lie beside it.")
@click.option("--rounds", type=click.IntRange(min=1), default=60, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True, help="CPU threads of an engine.")
def compare(weights: tuple[Path, ...], peers: tuple[Path, ...], output: Path, rounds: int, threads: int) -> None:
    """Measure every student and draw them."""
    with result_file(output), tempfile.TemporaryDirectory() as folder:
        engines = [_export(path, Path(folder) / f"{index}.onnx", threads) for index, path in enumerate(weights)]
        times = _measure([*map(_run, engines), *(_run_peer(path, threads) for path in peers)], rounds)
        points = [_point(path, engine, t) for path, engine, t in zip(weights, engines, times, strict=False)]
        if len({point.measure for point in points}) > 1:
            raise UsageError("the students are judged by different measures; compare those of one task and one set")
        points += [_peer(path, t) for path, t in zip(peers, times[len(weights) :], strict=True)]
        _draw(points, output)
        output.with_suffix(".json").write_text(json.dumps([point._asdict() for point in points], indent=2))
        table = _table(points)
        output.with_suffix(".md").write_text(table)
    click.echo(table)


def _export(weights: Path, path: Path, threads: int) -> Engine:
    export_onnx(weights, path, STREET, STREET, 1)
    return Engine.load(path, threads=threads)


def _run(engine: Engine) -> Step:
    """A pair through the runtime."""
    rng = np.random.default_rng(0)
    visible = rng.integers(0, 256, (1024, 1280, 3), dtype=np.uint8)
    thermal = rng.integers(0, 256, (120, 160), dtype=np.uint8) if engine.takes_thermal else None
    return lambda: engine.run_timed(visible, thermal)


def _run_peer(path: Path, threads: int) -> Step:
    """The graph of a file, on noise of the shapes that it names; 1 where it names none."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feeds = {}
    for value in session.get_inputs():
        shape = [size if isinstance(size, int) else 1 for size in value.shape]
        floats = value.type == "tensor(float)"
        feeds[value.name] = rng.random(shape, np.float32) if floats else rng.integers(0, 256, shape, np.uint8)
    return lambda: session.run(None, feeds)


def _measure(steps: list[Step], rounds: int) -> list[np.ndarray]:
    """Milliseconds of every round, step by step."""
    times: list[list[float]] = [[] for _ in steps]
    order = list(range(len(steps)))
    for turn in range(WARM_UP + rounds):
        random.Random(turn).shuffle(order)  # noqa: S311  # no secret
        for index in order:
            began = time.perf_counter()
            steps[index]()
            if turn >= WARM_UP:
                times[index].append(1e3 * (time.perf_counter() - began))
    return [np.array(t) for t in times]


def _peer(path: Path, milliseconds: np.ndarray) -> Point:
    parameters = sum(int(np.prod(tensor.dims)) for tensor in onnx.load(path).graph.initializer)
    p50, p95 = (float(np.percentile(milliseconds, share)) for share in (50, 95))
    return Point(path.stem, "", math.nan, parameters, p50, p95, path.stat().st_size / 1e6)


def _point(weights: Path, engine: Engine, milliseconds: np.ndarray) -> Point:
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
        engine.path.stat().st_size / 1e6,
    )


def _table(points: list[Point]) -> str:
    lines = [f"| student | {points[0].measure} | p50 ms | p95 ms | parameters | MB |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {p.name} | {'-' if math.isnan(p.accuracy) else f'{p.accuracy:.3f}'} | {p.p50_ms:.1f} | {p.p95_ms:.1f} "
        f"| {p.parameters / 1e6:.2f} M | {p.megabytes:.1f} |"
        for p in points
    ]
    return "\n".join([*lines, ""])


def _draw(points: list[Point], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 4), layout="constrained")
    judged = [point for point in points if not math.isnan(point.accuracy)]
    axis.scatter([p.p50_ms for p in judged], [p.accuracy for p in judged], s=[12 * p.megabytes for p in judged])
    for point in points[len(judged) :]:
        axis.axvline(point.p50_ms, linestyle=":", color="grey", label=f"{point.name}, {point.p50_ms:.0f} ms")
    if len(judged) < len(points):
        axis.legend(fontsize=8)
    for point in judged:
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
