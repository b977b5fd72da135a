"""How long networks take for a pair, side by side on this machine: the paper's column of runtimes.

PyTorch in single precision, one pair a batch, from normalised images to what the head gives, as the paper's tables
compare networks. Of resizing only a student's own enlarging of the thermal image is in it. What an exported engine
takes is another question, which `benchmarks/` answers.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mdtrain.build import Trained, load_trained

WARM_UP = 3
Step = Callable[[], object]


class Timing(NamedTuple):
    """Milliseconds a pair, and visible width and height of the network."""

    p50_ms: float
    p95_ms: float
    size: tuple[int, int]


def time_networks(weights: Sequence[Path], rounds: int) -> list[Timing]:
    """Time networks in interleaved rounds, in random order: a disturbance hits all alike.

    Raises:
        EngineError: weights that cannot be read.
    """
    torch.backends.cudnn.allow_tf32 = (
        False  # which PyTorch would take for single precision, and the paper's GPU has not
    )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    networks = [load_trained(path) for path in weights]
    steps = [_step(trained, device) for trained in networks]
    times: list[list[float]] = [[] for _ in steps]
    order = list(range(len(steps)))
    for turn in range(WARM_UP + rounds):
        random.Random(turn).shuffle(order)  # noqa: S311  # no secret
        for index in order:
            milliseconds = _milliseconds(steps[index], device)
            if turn >= WARM_UP:
                times[index].append(milliseconds)
    return [
        Timing(float(np.percentile(t, 50)), float(np.percentile(t, 95)), trained.config.model.visible)
        for t, trained in zip(times, networks, strict=True)
    ]


def _step(trained: Trained, device: torch.device) -> Step:
    """One forward pass over a pair of noise at the network's own sizes."""
    model = trained.model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in the stubs
    width, height = trained.config.model.visible
    low_width, low_height = trained.config.model.visible if trained.kind == "teacher" else trained.config.model.thermal
    visible = torch.randn(1, 3, height, width, device=device).to(memory_format=torch.channels_last)
    thermal: Tensor | None = torch.randn(1, 1, low_height, low_width, device=device)
    if trained.config.inputs == "visible" and trained.kind == "student":
        thermal = None
    return lambda: model(visible, thermal)


@torch.inference_mode()
def _milliseconds(step: Step, device: torch.device) -> float:
    began = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()  # kernels run on behind the call
    return 1e3 * (time.perf_counter() - began)


def machine() -> str:
    """What networks are timed on."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"a CPU ({torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()})"
