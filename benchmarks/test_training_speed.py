"""Speed of training's own work: drawing samples, and what a teacher adds to a step.

Bars, on two cores: 150 pairs a second at 640x512 from JPEG files of 640x480, default augmentation, nothing cached; a
distilled step of at most 1.6 native ones with the teacher's outputs on disk.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import cv2
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from mdtrain.build import sizes
from mdtrain.config import Config, load_config
from mdtrain.data.batches import Batch, TrainingBatches
from mdtrain.data.sets.street import read_street
from mdtrain.data.street_set import write_street_set
from mdtrain.loop import prepare
from mdtrain.recipes import baseline, distill, teacher

PAIRS_A_SECOND = 150
OVERHEAD = 1.6
BATCH = 16
WARM_UP, ROUNDS = 4, 20
STEPS = 8


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen scenes as JPEG files."""
    folder = tmp_path_factory.mktemp("street")
    for _ in write_street_set(folder, scenes=16, seed=1, validation=1):
        pass
    return folder


def config_of(street: Path, *more: str) -> Config:
    """The default network on these scenes."""
    common = ("data.sets=[]", f"data.street={street}", "data.validation=street", "data.coarser_share=0")
    return load_config(None, (*common, *more))


def test_drawing_samples(street: Path, benchmark: BenchmarkFixture) -> None:
    """Decoding, geometry, photometry and the simulated sensor, in two threads; batches of 16."""
    cv2.setNumThreads(0)
    config = config_of(street, "model.visible=[640,512]", "model.thermal=[160,128]", "data.cache_mb=0")
    batches = TrainingBatches(
        read_street(street, "train"),
        sizes(config),
        BATCH,
        seed=0,
        mosaic_until=WARM_UP + ROUNDS,
        mosaic_share=config.data.mosaic_share,
    )
    drawn = batches.between(0, WARM_UP + ROUNDS, torch.device("cpu"), threads=2)
    for _ in range(WARM_UP):  # the first batches fill the queue
        next(drawn)
    benchmark.pedantic(next, args=(drawn,), rounds=ROUNDS)  # type: ignore[no-untyped-call]  # as it ships
    if benchmark.stats is not None:  # None with --benchmark-disable
        pairs_a_second = BATCH / benchmark.stats.stats.mean  # the queue makes single batches uneven
        benchmark.extra_info["pairs_a_second"] = pairs_a_second
        assert pairs_a_second >= PAIRS_A_SECOND


def test_a_distilled_step(street: Path, tmp_path: Path, benchmark: BenchmarkFixture) -> None:
    """Native, distilled, and distilled from a cache, alternating on the same batches."""
    taught = teacher.train(config_of(street, "optimiser.iterations=1"), tmp_path / "teacher", "benchmark").weights
    config, cached = config_of(street), config_of(street, f"distill.cache={tmp_path / 'cache'}")
    runs = {"native": (config, baseline.make(config)), "distilled": distill.make(config, taught)}
    sessions = {name: prepare(*run) for name, run in (runs | {"cached": distill.make(cached, taught)}).items()}
    batches = list(sessions["native"].draw(STEPS))
    for batch in batches:  # fills the cache
        sessions["cached"].step(batch, tmp_path)
    times: dict[str, list[float]] = {name: [] for name in sessions}

    def round_of_steps(batch: Batch) -> None:
        for name, session in sessions.items():
            began = time.perf_counter()
            session.step(batch, tmp_path)
            times[name].append(time.perf_counter() - began)

    waiting = iter(batches)
    benchmark.pedantic(lambda: round_of_steps(next(waiting)), rounds=STEPS)  # type: ignore[no-untyped-call]
    ratios = {
        name: statistics.median(a / b for a, b in zip(times[name], times["native"], strict=True)) for name in times
    }
    benchmark.extra_info |= ratios
    assert ratios["cached"] <= OVERHEAD
