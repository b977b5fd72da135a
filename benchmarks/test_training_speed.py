"""Speed of training's own work: drawing samples, and what a teacher adds to a step.

Bars, on two cores: 150 pairs a second at 640x512 from JPEG files of 640x480, nothing cached (mosaics are timed too); a
distilled step of at most 1.6 native ones with the teacher outputs on disk.
"""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count, islice
from pathlib import Path

import cv2
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from mdtrain.build import sizes
from mdtrain.config import Config, load_config
from mdtrain.data.batches import Batch, TrainingBatches
from mdtrain.data.sets.street import read_street
from mdtrain.data.street_set import write_street_set
from mdtrain.loop import prepare
from mdtrain.recipes import baseline, distill, teacher
from mdtrain.tasks import make_task

PAIRS_A_SECOND = 150
OVERHEAD = 1.6
BATCH = 16
THREADS = 2
ROUNDS = 10
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


@pytest.mark.parametrize("mosaic_share", [0.0, 0.4], ids=["plain", "mosaics"])
def test_drawing_samples(street: Path, benchmark: BenchmarkFixture, mosaic_share: float) -> None:
    """Decoding, geometry, photometry and the simulated sensor, in two threads; a mosaic decodes four pairs."""
    cv2.setNumThreads(0)
    config = config_of(street, "model.visible=[640,512]", "model.thermal=[160,128]", "data.cache_mb=0")
    records = make_task(config).select(read_street(street, "train"))
    batches = TrainingBatches(records, sizes(config), BATCH, seed=0, mosaic_until=10**6, mosaic_share=mosaic_share)
    iterations = count()
    with ThreadPoolExecutor(THREADS) as pool:

        def draw() -> None:
            list(pool.map(batches.samples, islice(iterations, THREADS)))

        benchmark.pedantic(draw, rounds=ROUNDS, warmup_rounds=1)  # type: ignore[no-untyped-call]  # as it ships
    assert benchmark.stats is not None
    pairs_a_second = THREADS * BATCH / benchmark.stats.stats.median
    benchmark.extra_info["pairs_a_second"] = round(pairs_a_second)
    assert mosaic_share or pairs_a_second >= PAIRS_A_SECOND


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
    benchmark.extra_info.update({name: round(ratio, 2) for name, ratio in ratios.items()})
    assert ratios["cached"] <= OVERHEAD
