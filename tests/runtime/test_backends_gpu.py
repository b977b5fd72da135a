"""The GPU backends on a real GPU: plans built there by `mdexport`, results held against ONNX Runtime on the CPU."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from mdexport.plan.maker import make_plan
from mdexport.plan.options import PlanOptions
from mdrun.backends import Backend, Feeds, open_backend
from mdrun.backends.cuda import RUNTIMES, CudaError, DeviceMemory, open_memory
from mdrun.backends.nvidia.library import library_version
from mdrun.backends.tensorrt import TensorRtBackend
from mdrun.driver import DriverError, find_driver
from mdrun.engine import Engine
from mdrun.errors import BackendError
from mdrun.frames import Segmentation
from mdrun.manifest import Manifest
from mdrun.models import default
from mdrun.onnx_file import read_manifest
from mdrun.preprocess import Preprocess
from mdrun.rig.engines import SharedEngine
from mdrun.street import Street, StreetConfig
from tests.export.plan_models import write_fp16
from tests.runtime.test_batching import images, in_threads, write_filter

pytestmark = pytest.mark.gpu

FRAMES = 50
MOST_DIFFERENT_SCORE = {"fp32": 0.02, "fp16": 0.05}  # single precision uses TF32


@pytest.fixture(scope="module", params=["tensorrt", "rtx"])
def target(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    try:
        gpu = find_driver().gpus[0]
    except DriverError as error:
        pytest.skip(str(error))
    if library_version(name) is None:
        pytest.skip(f"no library for --target {name}")
    if name == "rtx" and gpu.compute_capability not in ("8.0", "8.6", "8.9", "12.0", "12.1"):
        pytest.skip(f"TensorRT for RTX does not know {gpu.name}")
    return name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plans")


@pytest.fixture(scope="module")
def plan(target: str, folder: Path) -> Path:
    """The shipped detector as a plan."""
    return build(default(), folder, target)


def build(graph: Path, folder: Path, target: str, **options: Any) -> Path:
    path = folder / f"{graph.stem}_{target}{'.rtx' if target == 'rtx' else '.plan'}"
    make_plan(graph, path, PlanOptions(target=target, **options))
    return path


@pytest.fixture
def backend(plan: Path) -> Iterator[TensorRtBackend]:
    with open_backend(plan, read_manifest(plan)) as opened:
        assert isinstance(opened, TensorRtBackend)
        yield opened


def scene(manifest: Manifest, seed: int) -> Feeds:
    street = Street(StreetConfig(seed=seed, time="night"))
    return {name: a.copy() for name, a in Preprocess(manifest)(street.visible(1.0), street.thermal(1.0)).items()}


def on_the_cpu(graph: Path, feeds: Feeds) -> dict[str, Any]:
    with open_backend(graph, read_manifest(graph), backend="onnxruntime") as reference:
        return reference.infer(feeds)


@pytest.mark.parametrize("precision", list(MOST_DIFFERENT_SCORE))
def test_a_plan_sees_what_its_onnx_sees(precision: str, target: str, tmp_path: Path) -> None:
    graph = default() if precision == "fp32" else write_fp16(tmp_path / "student.onnx")
    path = build(graph, tmp_path, target)
    manifest = read_manifest(path)
    with open_backend(path, manifest) as backend:
        assert (backend.name, backend.device) == ("tensorrt-rtx" if target == "rtx" else "tensorrt", "cuda:0")
        for seed in range(3):
            feeds = scene(manifest, seed)
            wanted, got = on_the_cpu(graph, feeds), backend.infer(feeds)
            assert {name: array.shape for name, array in got.items()} == {n: a.shape for n, a in wanted.items()}
            assert wanted["scores"].max() > 0.3
            assert np.abs(got["scores"] - wanted["scores"]).max() <= MOST_DIFFERENT_SCORE[precision]


def test_the_graph_gives_what_single_runs_give(backend: TensorRtBackend) -> None:
    lane, manifest = backend._lanes[1], backend._manifest
    assert lane.captured
    feeds = [scene(manifest, seed) for seed in range(3)]
    captured = [{name: array.copy() for name, array in backend.infer(each).items()} for each in feeds]
    lane._graph = None
    for each, want in zip(feeds, captured, strict=True):
        for name, array in backend.infer(each).items():
            np.testing.assert_array_equal(array, want[name])


def test_no_allocation_per_frame(backend: TensorRtBackend) -> None:
    """Neither on the device nor, beyond what Python needs for a call, on the host."""
    cuda = import_module(next(name for name in RUNTIMES if _imports(name)))
    feeds = scene(backend._manifest, 1)
    for _ in range(5):
        backend.infer(feeds)
    free = cuda.cudaMemGetInfo()[1]
    tracemalloc.start()
    backend.infer(feeds)
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    for _ in range(FRAMES):
        backend.infer(feeds)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert cuda.cudaMemGetInfo()[1] == free
    assert peak - before < 64 * 1024  # over all frames; a single input is 590 kB


def _imports(name: str) -> bool:
    try:
        import_module(name)
    except ImportError:
        return False
    return True


@dataclass
class OnGpu:
    """An array on the device, as other libraries show theirs."""

    memory: DeviceMemory
    array: Any

    def __post_init__(self) -> None:
        self._pinned = self.memory.pinned(self.array.shape, self.array.dtype)
        self._pinned[:] = self.array
        self.pointer = self.memory.allocate(self.array.nbytes)
        self.memory.upload(self.pointer, self._pinned)  # not waited for: the engine has to

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        stream = {"stream": self.memory.stream, "version": 3, "strides": None}
        return {"data": (self.pointer, False), "shape": self.array.shape, "typestr": self.array.dtype.str} | stream


@pytest.fixture
def memory() -> Iterator[DeviceMemory]:
    opened = open_memory()
    yield opened
    opened.close()


def check_on_gpu(engine: Engine, memory: DeviceMemory) -> None:
    for seed in range(3):
        feeds = scene(engine.manifest, seed)
        visible, thermal = feeds["visible"][0], feeds["thermal"][0]
        wanted = engine.infer(visible, thermal)
        on_gpu = OnGpu(memory, visible), OnGpu(memory, thermal)
        for pair in (on_gpu, (on_gpu[0], thermal), (visible, on_gpu[1])):
            found = engine.infer(*pair)
            np.testing.assert_array_equal(found.boxes_xyxy, wanted.boxes_xyxy)
            np.testing.assert_array_equal(found.scores, wanted.scores)
        assert len(wanted)


def test_arrays_on_the_gpu(plan: Path, memory: DeviceMemory) -> None:
    with Engine.load(plan) as engine:
        check_on_gpu(engine, memory)


@pytest.mark.parametrize("module", ["cupy", "torch"])
def test_arrays_of_other_libraries(module: str, plan: Path) -> None:
    library = pytest.importorskip(module)
    if module == "torch" and not library.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    with Engine.load(plan) as engine:
        feeds = scene(engine.manifest, 1)
        put = library.asarray if module == "cupy" else lambda array: library.from_numpy(array).cuda()
        wanted = engine.infer(feeds["visible"][0], feeds["thermal"][0])
        found = engine.infer(put(feeds["visible"][0]), put(feeds["thermal"][0]))
        np.testing.assert_array_equal(found.scores, wanted.scores)


def test_rigs_share_a_plan_in_batches(target: str, tmp_path: Path) -> None:
    graph = write_filter(tmp_path / "filter.onnx")
    model = onnx.load(graph)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    path = build(graph, tmp_path, target, max_batch=4)
    with Engine.load(path) as engine:
        assert engine.max_batch == 4
        alone = [engine.segment(*images(seed), normalised=True) for seed in range(4)]
        shared = SharedEngine(engine)
        for _ in range(4):
            shared.add_rig()
        together = in_threads(
            *[lambda seed=seed: [shared.run(*images(seed))[0] for _ in range(20)] for seed in range(4)]
        )
    for results, want in zip(together, alone, strict=True):
        for found in results:  # another batch size, other kernels: close scores may swap
            assert isinstance(found, Segmentation)
            assert np.mean(found.label_map != want.label_map) < 0.001


def test_a_plan_for_another_gpu_names_what_differs(target: str, plan: Path, tmp_path: Path) -> None:
    if target == "rtx":
        pytest.skip("a GPU newer than those an engine was built for may run it")
    manifest = read_manifest(plan)
    assert manifest.build is not None
    other = replace(manifest, build=replace(manifest.build, compute_capabilities=["5.0"]))
    copy = tmp_path / plan.name
    copy.write_bytes(b"not reached")
    with pytest.raises(BackendError, match=r"GPU: built for .*5\.0.*; build it again here: mdexport plan"):
        open_backend(copy, other)


@pytest.fixture(params=["onnxruntime-cuda", "onnxruntime-tensorrt"])
def on_cuda(request: pytest.FixtureRequest) -> Iterator[Backend]:
    try:
        find_driver()
    except DriverError as error:
        pytest.skip(str(error))
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime is not onnxruntime-gpu")
    path = default()
    with open_backend(path, read_manifest(path), backend=str(request.param)) as opened:
        yield opened


def test_onnx_runtime_on_the_gpu(on_cuda: Backend) -> None:
    feeds = scene(read_manifest(default()), 1)
    wanted, got = on_the_cpu(default(), feeds), on_cuda.infer(feeds)
    assert np.abs(got["scores"] - wanted["scores"]).max() <= MOST_DIFFERENT_SCORE["fp32"]


def test_onnx_runtime_reads_arrays_on_the_gpu(on_cuda: Backend) -> None:
    try:
        memory = open_memory()
    except CudaError as error:
        pytest.skip(str(error))
    with Engine.load(default(), backend=on_cuda.name) as engine:
        check_on_gpu(engine, memory)
    memory.close()
