"""Rigs that share an engine: in batches where it takes them, first come first served, each with its own results."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mdrun.backends import LIBRARIES, Inputs, Outputs, open_backend
from mdrun.backends.base import ANY_BATCH
from mdrun.engine import Engine
from mdrun.errors import DataError, EngineError
from mdrun.frames import Found, Segmentation
from mdrun.manifest import METADATA_KEY, OutputSpec
from mdrun.models import default
from mdrun.onnx_file import read_manifest
from mdrun.rig.batching import Turns
from mdrun.rig.config import LadderConfig, RungConfig
from mdrun.rig.engines import EnginePool, SharedEngine
from tests.runtime.engines import THERMAL_WH, VISIBLE_WH, make_segment_manifest, write_areas, write_blob
from tests.runtime.plans import write_dynamic

WAIT_S = 30.0
PAIRS = 6
T = TypeVar("T")


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.001)


def in_threads(*works: Callable[[], T]) -> list[T]:
    """Run them all at once; what each gives, or the first error."""
    found: dict[int, T] = {}
    errors: list[BaseException] = []

    def run(index: int) -> None:
        try:
            found[index] = works[index]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    if errors:
        raise errors[0]
    return [found[index] for index in range(len(works))]


class Gate:
    """An engine that runs when it is let, and gives back what it got."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.fails: BaseException | None = None
        self.running = False
        self._let = threading.Semaphore(0)

    def run(self, pairs: Sequence[Inputs]) -> list[Outputs]:
        """One batch."""
        assert not self.running, "two runs at once"
        self.running = True
        self.batches.append([int(feeds["number"][0]) for feeds in pairs])  # type: ignore[index]  # no CudaArray here
        assert self._let.acquire(timeout=WAIT_S)
        self.running = False
        if self.fails is not None:
            raise self.fails
        return [{"number": feeds["number"]} for feeds in pairs]  # type: ignore[dict-item]

    def let(self, count: int = 1) -> None:
        """Let it finish so many runs."""
        self._let.release(count)


def number(value: int) -> Inputs:
    return {"number": np.array([value])}


class Callers:
    """Threads that ask one after the other and remember what they got."""

    def __init__(self, turns: Turns) -> None:
        self.got: dict[int, int | BaseException] = {}
        self._turns = turns
        self._threads: list[threading.Thread] = []

    def ask(self, value: int) -> None:
        """From a thread of its own; back when it is in the queue or runs."""

        def work() -> None:
            try:
                outputs, infer_ms = self._turns.infer(number(value))
                assert infer_ms >= 0
                self.got[value] = int(outputs["number"][0])
            except BaseException as error:
                self.got[value] = error

        self._threads.append(threading.Thread(target=work, daemon=True))
        waiting = len(self._turns._waiting)
        busy = self._turns._busy
        self._threads[-1].start()
        until(lambda: len(self._turns._waiting) > waiting or (not busy and self._turns._busy))

    def join(self) -> None:
        """Until all have their answers."""
        for thread in self._threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    ("most", "batches"),
    [(1, [[0], [1], [2], [3], [4]]), (2, [[0], [1, 2], [3, 4]]), (3, [[0], [1, 2, 3], [4]]), (9, [[0], [1, 2, 3, 4]])],
)
def test_who_waits_is_served_together_in_the_order_of_coming(most: int, batches: list[list[int]]) -> None:
    gate = Gate()
    callers = Callers(turns := Turns(gate.run, most))
    for value in range(5):
        callers.ask(value)
    gate.let(5)
    callers.join()
    assert gate.batches == batches
    assert callers.got == {value: value for value in range(5)}
    assert not turns._waiting


def test_alone_nobody_waits_for_company() -> None:
    gate = Gate()
    turns = Turns(gate.run, most=8)
    gate.let(3)
    for value in range(3):
        assert turns.infer(number(value))[0]["number"][0] == value
    assert gate.batches == [[0], [1], [2]]


def test_an_error_reaches_everybody_in_the_batch_and_nobody_else() -> None:
    gate = Gate()
    callers = Callers(Turns(gate.run, most=2))
    for value in range(4):
        callers.ask(value)
    gate.let()
    until(lambda: len(gate.batches) == 2)
    gate.fails = EngineError("the library failed")
    gate.let()
    until(lambda: len(gate.batches) == 3)
    gate.fails = None
    gate.let()
    callers.join()
    assert callers.got[0] == 0
    assert callers.got[1] is callers.got[2]
    assert isinstance(callers.got[1], EngineError)
    assert callers.got[3] == 3


def test_one_that_is_interrupted_while_it_waits_leaves_the_queue() -> None:
    """As Ctrl-C does in a main thread; the first of the queue is the one that all others count on."""
    gate = Gate()
    turns = Turns(gate.run, most=1)
    callers = Callers(turns)
    callers.ask(0)
    real, interrupted = turns._changed.wait_for, threading.Event()

    def interrupt(*_: Any, **__: Any) -> bool:
        interrupted.set()
        raise KeyboardInterrupt

    turns._changed.wait_for = interrupt  # type: ignore[assignment, method-assign]
    with pytest.raises(KeyboardInterrupt):
        turns.infer(number(1))
    turns._changed.wait_for = real  # type: ignore[method-assign]
    assert interrupted.is_set()
    callers.ask(2)
    gate.let(2)
    callers.join()
    assert gate.batches == [[0], [2]]


def test_nothing_runs_beside_what_wants_to_be_alone() -> None:
    gate = Gate()
    turns = Turns(gate.run, most=1)
    callers = Callers(turns)
    callers.ask(0)
    seen: list[bool] = []
    waiter = threading.Thread(target=lambda: turns.alone(lambda: seen.append(gate.running)), daemon=True)
    waiter.start()
    gate.let()
    waiter.join(WAIT_S)
    callers.join()
    assert seen == [False]


@pytest.fixture(scope="module")
def areas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("areas")
    return write_dynamic(folder / "areas.onnx", write_areas(folder / "fixed.onnx"))


def write_filter(path: Path) -> Path:
    """Convolutions over both images, wide enough for the fast kernels, and the largest of nine maps: any batch."""
    rng = np.random.default_rng(3)
    weights: dict[str, NDArray[Any]] = {
        "first": rng.normal(size=(32, 4, 3, 3)).astype(np.float32) / 40,
        "second": rng.normal(size=(9, 32, 3, 3)).astype(np.float32) / 10,
        "scales": np.array([1, 1, VISIBLE_WH[1] / THERMAL_WH[1], VISIBLE_WH[0] / THERMAL_WH[0]], np.float32),
        "channel": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["visible"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["thermal"], ["heat"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["heat", "channel"], ["heat_map"]),
        helper.make_node("Resize", ["heat_map", "", "scales"], ["warm"], mode="linear"),
        helper.make_node("Concat", ["planes", "warm"], ["both"], axis=1),
        helper.make_node("Conv", ["both", "first"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["active"]),
        helper.make_node("Conv", ["active", "second"], ["maps"], pads=[1, 1, 1, 1]),
        helper.make_node("ArgMax", ["maps"], ["largest"], axis=1, keepdims=0),
        helper.make_node("Cast", ["largest"], ["labels"], to=TensorProto.INT32),
        helper.make_node("ReduceMean", ["maps"], ["energy_map"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Identity", ["energy_map"], ["energy"]),
    ]
    manifest = make_segment_manifest("filter", THERMAL_WH)
    manifest = replace(manifest, outputs=manifest.outputs | {"energy": OutputSpec("float32", [1], "mean of the maps")})
    types = {"visible": TensorProto.UINT8, "thermal": TensorProto.UINT8}
    sizes = {"visible": [*VISIBLE_WH[::-1], 3], "thermal": [*THERMAL_WH[::-1]]}
    inputs = [helper.make_tensor_value_info(name, types[name], ["batch", *sizes[name]]) for name in manifest.inputs]
    outputs = [
        helper.make_tensor_value_info("labels", TensorProto.INT32, ["batch", *VISIBLE_WH[::-1]]),
        helper.make_tensor_value_info("energy", TensorProto.FLOAT, ["batch"]),
    ]
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, manifest.network_name(), inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {METADATA_KEY: manifest.to_json()})
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def filtering(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_filter(tmp_path_factory.mktemp("filter") / "filter.onnx")


def images(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    visible = rng.integers(0, 256, (*VISIBLE_WH[::-1], 3)).astype(np.uint8)
    return visible, rng.integers(0, 256, THERMAL_WH[::-1]).astype(np.uint8)


def feeds(seed: int) -> Inputs:
    visible, thermal = images(seed)
    return {"visible": visible[None], "thermal": thermal[None]}


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_batch_gives_each_pair_what_it_gets_alone(library: str, filtering: Path) -> None:
    """To the bit, in both libraries: the same kernels go over each image of a batch."""
    with open_backend(filtering, read_manifest(filtering), 1, library) as backend:
        assert backend.max_batch == ANY_BATCH
        alone = [{name: array.copy() for name, array in backend.infer(feeds(seed)).items()} for seed in range(PAIRS)]
        for count in (2, 3, PAIRS):
            together = backend.infer_batch([feeds(seed) for seed in range(count)])
            assert len(together) == count
            for got, want in zip(together, alone, strict=False):
                for name, array in want.items():
                    np.testing.assert_array_equal(got[name], array)
                    assert got[name].shape == array.shape
    energies = {float(outputs["energy"][0]) for outputs in alone}
    assert len(energies) == PAIRS  # another pair, another result
    assert all(len(np.unique(outputs["labels"])) > 3 for outputs in alone)


@pytest.mark.parametrize("library", LIBRARIES)
def test_no_later_run_overwrites_a_batch(library: str, filtering: Path) -> None:
    with open_backend(filtering, read_manifest(filtering), 1, library) as backend:
        for count in (1, 2):
            kept = backend.infer_batch([feeds(seed) for seed in range(count)])
            copies = [outputs["labels"].copy() for outputs in kept]
            backend.infer_batch([feeds(seed) for seed in range(2, 2 + count)])
            for outputs, copy in zip(kept, copies, strict=True):
                np.testing.assert_array_equal(outputs["labels"], copy)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("rigs", [2, 4])
def test_rigs_that_share_an_engine_see_what_they_see_alone(library: str, rigs: int, filtering: Path) -> None:
    with Engine.load(filtering, threads=1, backend=library) as engine:
        alone = {seed: engine.segment(*images(seed), normalised=True) for seed in range(rigs * PAIRS)}
        shared = SharedEngine(engine)
        for _ in range(rigs):
            shared.add_rig()
        sizes = count_batches(shared)

        def rig(first: int) -> list[tuple[int, Found]]:
            return [(seed, shared.run(*images(seed))[0]) for seed in range(first, first + PAIRS)]

        found = in_threads(*[lambda first=rig_number * PAIRS: rig(first) for rig_number in range(rigs)])
    for seed, segmentation in (item for results in found for item in results):
        assert isinstance(segmentation, Segmentation)
        np.testing.assert_array_equal(segmentation.label_map, alone[seed].label_map)
        assert segmentation.energy == alone[seed].energy
    assert sum(sizes) == rigs * PAIRS
    assert max(sizes) <= rigs


def count_batches(shared: SharedEngine) -> list[int]:
    """Sizes of the batches that it runs from now on."""
    sizes: list[int] = []
    run = shared._turns._run

    def counted(pairs: Sequence[Inputs]) -> list[Outputs]:
        sizes.append(len(pairs))
        return run(pairs)

    shared._turns._run = counted
    return sizes


def test_rigs_that_ask_at_once_are_served_at_once(filtering: Path) -> None:
    """The first alone, for nobody waits; the three that come meanwhile together."""
    with Engine.load(filtering, threads=1, backend="onnxruntime") as engine:
        shared = SharedEngine(engine)
        for _ in range(4):
            shared.add_rig()
        sizes = count_batches(shared)
        run, first = shared._turns._run, threading.Event()

        def held(pairs: Sequence[Inputs]) -> list[Outputs]:
            if not first.is_set():
                first.set()
                until(lambda: len(shared._turns._waiting) == 3)
            return run(pairs)

        shared._turns._run = held
        found = in_threads(*[lambda seed=seed: shared.run(*images(seed)) for seed in range(4)])
        assert sizes == [1, 3]
        assert all(set(stages) == {"preprocess", "infer", "postprocess"} for _, stages in found)


def test_a_fixed_batch_is_never_more_than_one(tmp_path: Path) -> None:
    with Engine.load(write_blob(tmp_path / "blob.onnx"), threads=1) as engine:
        shared = SharedEngine(engine)
        for _ in range(3):
            shared.add_rig()
        sizes = count_batches(shared)
        in_threads(*[lambda: [shared.run(*images(1)) for _ in range(PAIRS)] for _ in range(3)])
    assert sizes == [1] * 3 * PAIRS


def test_a_bad_image_of_one_rig_is_no_other_rig_s_error(filtering: Path) -> None:
    with Engine.load(filtering, threads=1) as engine:
        shared = SharedEngine(engine)
        for _ in range(2):
            shared.add_rig()
        visible, thermal = images(1)

        def bad() -> type[BaseException] | None:
            try:
                shared.run(visible[..., 0], thermal)
            except DataError as error:
                return type(error)
            return None

        kinds = in_threads(bad, lambda: type(shared.run(visible, thermal)[0]))
    assert kinds == [DataError, Segmentation]


@pytest.fixture
def pool() -> Iterator[EnginePool]:
    with EnginePool() as opened:
        yield opened


def ladder(*engines: Path, **options: Any) -> LadderConfig:
    return LadderConfig(engines=[RungConfig(engine=str(engine), **options) for engine in engines], threads=1)


def test_the_pool_loads_an_engine_once_and_counts_its_rigs(pool: EnginePool, filtering: Path, areas: Path) -> None:
    (first,) = pool.load(ladder(filtering))
    assert (first.rigs, first._turns.most) == (1, 1)
    (again, other) = pool.load(ladder(filtering, areas))
    assert again is first
    assert (first.rigs, first._turns.most) == (2, 2)
    assert (other.rigs, other._turns.most) == (1, 1)
    (apart,) = pool.load(ladder(filtering, backend="openvino"))
    assert apart is not first


def test_every_batch_that_can_occur_is_warm(filtering: Path) -> None:
    """Compiling in the middle of a run would hold up every rig."""
    with Engine.load(filtering, threads=1) as engine:
        ran: list[int] = []
        shared, run = SharedEngine(engine), engine.infer_batch

        def counted(pairs: Sequence[Inputs]) -> list[Outputs]:
            ran.append(len(pairs))
            return run(pairs)

        engine.infer_batch = counted  # type: ignore[method-assign]
        for _ in range(3):
            shared.add_rig()
        assert ran == [1, 2, 3]


def test_a_closed_pool_closes_its_engines(filtering: Path) -> None:
    with EnginePool() as pool:
        (shared,) = pool.load(ladder(filtering))
    with pytest.raises(EngineError, match="closed"):
        shared.run(*images(1))


def test_the_detector_that_ships_is_shared_too(pool: EnginePool) -> None:
    first, second = (pool.load(LadderConfig(threads=1)) for _ in range(2))
    assert first == second
    assert first[0].engine.path == default()
    assert first[0].rigs == 2
