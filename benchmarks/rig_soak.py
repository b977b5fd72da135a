"""A rig on two real RTSP cameras for minutes: latency from glass to result, losses, memory.

python -m benchmarks.rig_soak --engine student_int8.onnx --seconds 600 --output runs/soak.json

Both streams (1280x1024 at 30 Hz, 160x120 at 9 Hz, H.264 over loopback) carry a mark with a running number and the wall
clock of its capture, read back from the pictures: "glass to result" is a time between two clock readings of one
machine, and a lost frame is a missing number. The server shares the machine's cores with what is measured.
"""

from __future__ import annotations

import json
import os
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
from tests.rtsp_server import RtspServer, mark_ns, read_mark

from benchmarks.machine import describe_machine
from mdrun.command import run_command
from mdrun.frames import Modality, Result
from mdrun.rig.config import RigConfig
from mdrun.rig.engines import EnginePool
from mdrun.rig.run import RigRun
from mdrun.sinks.dispatch import Dispatch
from mdtrain.outputs import result_file

OUTSIDE = ("align", "preprocess", "postprocess", "track")  # stages that are neither engine nor waiting
SETTLE_S = 60.0  # libraries fill their pools meanwhile; growth is counted from here on


class Marks:
    """Reads the marks of the results on their way to the sinks."""

    def __init__(self) -> None:
        self.glass_ms: list[float] = []
        self.numbers: list[int] = []
        self.first_s: float | None = None
        self._began = time.monotonic()

    def see(self, result: Result) -> None:
        """One result, the moment it is there."""
        number, micros = read_mark(result.pair.visible.image)
        self.glass_ms.append((time.monotonic_ns() - mark_ns(micros)) / 1e6)
        self.numbers.append(number)
        if self.first_s is None:
            self.first_s = time.monotonic() - self._began


@click.command()
@click.option("--engine", "engines", multiple=True, help="The ladder [default: the detector that ships].")
@click.option("--backend", default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=None, help="CPU threads of the engine.")
@click.option("--seconds", type=click.FloatRange(min=5), default=600, show_default=True)
@click.option("--sink", "sinks", multiple=True, help="More outputs, as of `mdrun --output`.")
@click.option("--output", type=click.Path(path_type=Path), required=True)
def soak(
    engines: tuple[str, ...], backend: str, threads: int | None, seconds: float, sinks: tuple[str, ...], output: Path
) -> None:
    """Run, measure, write."""
    with RtspServer() as server, result_file(output), EnginePool() as pool:
        config = RigConfig.model_validate(
            {
                "rig": "soak",
                "cameras": {
                    "cam0": {"source": server.url("visible"), "role": "visible"},
                    "cam1": {"source": server.url("thermal"), "role": "thermal"},
                },
                "ladder": {"engines": [{"engine": e, "backend": backend} for e in engines], "threads": threads},
                "outputs": list(sinks),
            }
        )
        row = _run(config, pool, seconds)
        row["server_cpu_share"] = round(server.cpu_seconds() / seconds, 2)
        output.write_text(json.dumps({"machine": describe_machine(), **row}, indent=2) + "\n", encoding="utf-8")
        click.echo(json.dumps(row, indent=2))


def _run(config: RigConfig, pool: EnginePool, seconds: float) -> dict[str, Any]:
    marks = Marks()
    memory: list[tuple[float, float]] = []
    run = RigRun(config, pool)
    _listen(run, marks)
    done = threading.Event()

    def watch() -> None:
        began = time.monotonic()
        while not done.wait(1.0):
            memory.append((time.monotonic() - began, _rss_mb()))
            if memory[-1][0] > seconds:
                run.stop()

    used = -_cpu_s()
    threading.Thread(target=watch, daemon=True).start()
    summary = run.run().summary
    done.set()
    used += _cpu_s()
    return {
        "seconds": round(summary["elapsed_s"], 1),
        "engine": summary["ladder"]["engines"],
        "captured": summary["captured"],
        "results": summary["results"],
        "drops": summary["drops"],
        "unaccounted": summary["captured"]["visible"] - summary["results"] - sum(summary["drops"].values()),
        "numbers_in_order": _in_order(marks.numbers),
        "thermal_provenance": summary["thermal_provenance"],
        "glass_to_result_ms": _points(marks.glass_ms),
        "capture_to_result_ms": summary["latency_ms"],
        "stages_ms": summary["stages_ms"],
        "outside_engine_ms_p50": round(sum(summary["stages_ms"][stage]["p50"] for stage in OUTSIDE), 3),
        "first_result_s": None if marks.first_s is None else round(marks.first_s, 3),
        "cpu_share": round(used / summary["elapsed_s"], 2),
        "rss_mb": _memory(memory),
        "clock": {role.value: summary["cameras"][role.value]["clock"] for role in Modality},
        "sinks": summary["sinks"],
    }


def _rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system


def _listen(run: RigRun, marks: Marks) -> None:
    """Look at each result before the sinks get it."""
    dispatch: Dispatch = run.dispatch
    offer = dispatch.offer

    def see(result: Result) -> None:
        marks.see(result)
        offer(result)

    dispatch.offer = see  # type: ignore[method-assign]


def _points(values: list[float]) -> dict[str, float]:
    points = np.percentile(values, [50, 95, 99]) if values else [float("nan")] * 3
    named = dict(zip(("p50", "p95", "p99"), map(float, points), strict=True)) | {"max": max(values, default=0.0)}
    return {name: round(value, 2) for name, value in named.items()}


def _in_order(numbers: list[int]) -> bool:
    """Each number is ahead of the one before, as 16-bit counters go."""
    return all(0 < (after - before) % 2**16 < 2**15 for before, after in pairwise(numbers))


def _memory(samples: list[tuple[float, float]]) -> dict[str, float]:
    """Megabytes: highest, and the growth an hour by a line through the samples after the first minute."""
    late = np.array([sample for sample in samples if sample[0] > min(SETTLE_S, samples[-1][0] / 2)])
    slope = float(np.polyfit(late[:, 0], late[:, 1], 1)[0]) if len(late) > 2 else float("nan")
    return {"max": round(max(mb for _, mb in samples), 1), "growth_per_hour": round(slope * 3600, 2)}


if __name__ == "__main__":
    raise SystemExit(run_command(soak, "rig_soak"))
