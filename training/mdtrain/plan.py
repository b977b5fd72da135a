"""What a training will cost: counted from the network, measured on a few of its own iterations."""

from __future__ import annotations

import resource
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from mdtrain.config import Config
from mdtrain.loop import FRESH, Recipe, Session, Start, find_checkpoint, prepare, run_folder

WARM_UP = 2  # the first iterations choose kernels and allocate
MEASURED = 3


class Plan(NamedTuple):
    """The plan of a training.

    Attributes:
        kind: `teacher` or `student`.
        parameters: of the network that learns, those used in training only included.
        macs: multiply-accumulates of convolutions for one pair, forward.
        pairs: training pairs.
        validation_pairs: validation pairs.
        iterations: length.
        epochs: how often each pair is seen, mosaics apart.
        device: where it was measured.
        precision: of the iterations.
        memory_mb: most memory in use while measuring, MiB: of the device with CUDA, else of the process.
        seconds_per_iteration: median.
        minutes: estimate for the whole run, or for what is left of it, evaluations included.
    """

    kind: str
    parameters: int
    macs: int
    pairs: int
    validation_pairs: int
    iterations: int
    epochs: float
    device: str
    precision: str
    memory_mb: float
    seconds_per_iteration: float
    minutes: float


def plan(config: Config, recipe: Recipe, folder: Path, start: Start = FRESH) -> Plan:
    """Build everything, run a few iterations and one evaluation, keep nothing.

    Raises:
        EngineError, OutputError, SourceError, UsageError: what `loop.run` raises; a plan finds the mistakes of the run.
        DivergedError: as there, but the batch is not kept.
    """
    checkpoint = find_checkpoint(folder, start)
    with run_folder(folder):  # tried, and taken back
        session = prepare(config, recipe, start, checkpoint)
    left = max(config.optimiser.iterations - session.state.iteration, 0)
    macs = count_macs(session)
    per_iteration = _time_iterations(session)
    began = time.perf_counter()
    session.validate()
    evaluations = -(-left // config.evaluate_every)
    seconds = left * per_iteration + evaluations * (time.perf_counter() - began)
    return Plan(
        kind=recipe.kind,
        parameters=sum(p.numel() for p in session.state.model.parameters()),
        macs=macs,
        pairs=session.pairs,
        validation_pairs=len(session.validation),
        iterations=config.optimiser.iterations,
        epochs=config.optimiser.iterations * config.optimiser.batch_size / session.pairs,
        device=str(session.fabric.device),
        precision=config.computed_precision,
        memory_mb=_peak_memory(session.fabric.device),
        seconds_per_iteration=per_iteration,
        minutes=seconds / 60,
    )


def count_macs(session: Session) -> int:
    """Multiply-accumulates of one pair through the network, in evaluation mode; norms and activations not counted."""
    batch = next(session.draw(session.state.iteration + 1))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        session.recipe.predict(session.state.average, batch)
    return int(counter.get_total_flops()) // 2 // len(batch.visible)


def _time_iterations(session: Session) -> float:
    """Median seconds of an iteration, drawing of samples included."""
    times = []
    began = time.perf_counter()
    for batch in session.draw(session.state.iteration + WARM_UP + MEASURED):
        session.step(batch, None)  # its values are numbers already: the device has finished
        times.append(time.perf_counter() - began)
        began = time.perf_counter()
    return statistics.median(times[WARM_UP:])


def _peak_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
