"""Latency of one network in several precisions, in every engine library that is here, in one interleaved run.

python -m benchmarks.precision_latency student/student.onnx student/student_int8.onnx --output runs/precision.json

The first engine is the reference. Rounds visit all engines and libraries in random order, each once untimed and once
timed; a ratio is the median over rounds of this engine's time against the reference's in the same round.
"""

from __future__ import annotations

import json
import platform
import random
import sys
import time
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

from benchmarks.machine import processor
from mdrun.backends import LIBRARIES, Backend, open_backend
from mdrun.command import run_command
from mdrun.errors import EngineError
from mdrun.onnx_file import read_manifest
from mdtrain.outputs import result_file


class Contender(NamedTuple):
    """An engine in a library: what is timed."""

    engine: str
    precision: str
    library: str
    backend: Backend
    feeds: dict[str, np.ndarray]


class Timed(NamedTuple):
    """Times of a contender, in milliseconds, and its ratio to the first engine in the same library."""

    engine: str
    precision: str
    library: str
    p50_ms: float
    p95_ms: float
    ratio: float


@click.command()
@click.argument("engines", nargs=-1, type=click.Path(path_type=Path), required=True)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="JSON; a .md lies beside it.")
@click.option("--rounds", type=click.IntRange(min=1), default=40, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True, help="CPU threads of an engine.")
def compare(engines: tuple[Path, ...], output: Path, rounds: int, threads: int) -> None:
    """Time every engine in every library."""
    with result_file(output):
        contenders = [c for library in LIBRARIES for c in _open(engines, library, threads)]
        rows = _rows(contenders, _measure(contenders, rounds), engines[0].name)
        machine = {"processor": processor(), "threads": threads, "rounds": rounds, "python": platform.python_version()}
        output.write_text(json.dumps({"machine": machine, "rows": [row._asdict() for row in rows]}, indent=2))
        table = _table(rows)
        output.with_suffix(".md").write_text(table)
    click.echo(table)


def _open(engines: tuple[Path, ...], library: str, threads: int) -> list[Contender]:
    rng = np.random.default_rng(0)
    found = []
    for path in engines:
        manifest = read_manifest(path)
        try:
            backend = open_backend(path, manifest, threads, library)
        except EngineError as error:
            click.echo(f"{path.name} in {library}: {error}", err=True)
            continue
        shapes = {
            name: (1, spec.height, spec.width, *([3] if name == "visible" else []))
            for name, spec in manifest.inputs.items()
        }
        feeds = {name: rng.integers(0, 256, shape, dtype=np.uint8) for name, shape in shapes.items()}
        found.append(Contender(path.name, manifest.origin.precision or "", library, backend, feeds))
    return found


def _measure(contenders: list[Contender], rounds: int) -> np.ndarray:
    """(rounds, contenders) milliseconds."""
    times = np.empty((rounds, len(contenders)))
    order = list(range(len(contenders)))
    for turn in range(rounds):
        random.Random(turn).shuffle(order)  # noqa: S311  # no secret
        for index in order:
            contenders[index].backend.infer(contenders[index].feeds)
            began = time.perf_counter()
            contenders[index].backend.infer(contenders[index].feeds)
            times[turn, index] = 1e3 * (time.perf_counter() - began)
    return times


def _rows(contenders: list[Contender], times: np.ndarray, first: str) -> list[Timed]:
    reference = {c.library: times[:, index] for index, c in enumerate(contenders) if c.engine == first}
    return [
        Timed(
            c.engine,
            c.precision,
            c.library,
            float(np.percentile(times[:, index], 50)),
            float(np.percentile(times[:, index], 95)),
            float(np.median(times[:, index] / reference[c.library])),
        )
        for index, c in enumerate(contenders)
    ]


def _table(rows: list[Timed]) -> str:
    lines = ["| engine | precision | library | p50 ms | p95 ms | ratio |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {r.engine} | {r.precision} | {r.library} | {r.p50_ms:.1f} | {r.p95_ms:.1f} | {r.ratio:.3f} |" for r in rows
    ]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(run_command(compare, "precision_latency"))
