"""Memory of a GPU: what lends it, arrays that lie there already, and the names that the stand-ins are held to."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest

from mdrun.backends.cuda import RUNTIMES, CudaError, open_memory
from mdrun.backends.nvidia.library import load_library
from mdrun.backends.tensorrt import TensorRtBackend
from mdrun.driver import DriverError, find_driver
from mdrun.engine import Engine
from mdrun.errors import DataError
from mdrun.onnx_file import read_manifest
from mdrun.preprocess import Preprocess
from tests.export.fake_tensorrt import NAMES
from tests.runtime.engines import VISIBLE_WH, write_areas
from tests.runtime.fake_gpu import CLASSES, ENUMS, OURS, FakeCuda, Script, write_plan
from tests.runtime.plans import OnGpu, labels, open_plan, pair, put_gpu, upload, write_dynamic

Install = Callable[..., Script]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a GPU into this machine."""
    yield partial(put_gpu, monkeypatch)
    load_library.cache_clear()


@pytest.fixture
def script(install: Install) -> Script:
    return install()


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_areas(tmp_path_factory.mktemp("graph") / "areas.onnx")


@pytest.fixture
def plan(graph: Path, tmp_path: Path) -> Path:
    path = tmp_path / "areas.plan"
    write_plan(path, graph)
    return path


def test_an_array_on_the_gpu_is_read_where_it_lies(plan: Path, graph: Path, script: Script) -> None:
    images = pair(1)
    with Engine.load(plan) as engine:
        own = [words for words in script.told if words[0] == "set_tensor_address"]
        visible = upload(script, images["visible"][0])  # not there yet: its stream has not run
        before, told = script.cuda.calls.copy(), len(script.told)
        found = engine.segment(visible, images["thermal"][0])
        np.testing.assert_array_equal(found.label_map, labels(graph, 1)[0][0])
        calls = script.cuda.calls - before
        assert calls == {"cudaMemcpyAsync": 2, "cudaStreamSynchronize": 2}  # thermal up, labels down; its stream, ours
        run, back = (words for words in script.told[told:] if words[0] == "set_tensor_address")
        assert run == ("set_tensor_address", "visible", visible.pointer)
        assert back in own
        found = engine.segment(pair(2)["visible"][0], pair(2)["thermal"][0])  # and again from the host
        np.testing.assert_array_equal(found.label_map, labels(graph, 2)[0][0])


def test_both_images_on_the_gpu(plan: Path, graph: Path, script: Script) -> None:
    with Engine.load(plan) as engine:
        on_gpu = [upload(script, pair(3)[name]) for name in ("visible", "thermal")]  # with a batch in front
        before = script.cuda.calls.copy()
        found = engine.segment(*on_gpu)
        assert (script.cuda.calls - before)["cudaMemcpyAsync"] == 1
    np.testing.assert_array_equal(found.label_map, labels(graph, 3)[0][0])


SHAPE = (*VISIBLE_WH[::-1], 3)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (
            OnGpu(4096, (1024, 1280, 3)),
            r"visible is uint8 \(1024, 1280, 3\) on a GPU, the engine takes uint8 \(72, 96, 3",
        ),
        (
            OnGpu(4096, SHAPE, "<f4"),
            "images are resized on the host: give a NumPy array, or resize it on the GPU first",
        ),
        (OnGpu(4096, SHAPE, strides=(600, 3, 1)), "gaps between its pixels; give a contiguous copy"),
        (OnGpu(4096, SHAPE, mask=OnGpu(4096, SHAPE)), "has a mask"),
        (OnGpu(4100, SHAPE), "starts at address 0x1004, wanted a multiple of 256"),
        (OnGpu(0, SHAPE), "starts at address 0x0"),
    ],
)
def test_arrays_on_the_gpu_that_do_not_fit(array: OnGpu, words: str, plan: Path, script: Script) -> None:
    with Engine.load(plan) as engine, pytest.raises(DataError, match=words) as caught:
        engine.segment(array, pair(0)["thermal"][0])
    assert "\n" not in str(caught.value)


def test_the_strides_of_a_dense_array_are_none_either_way(plan: Path, script: Script) -> None:
    with Engine.load(plan) as engine:
        array = upload(
            script, pair(1)["visible"], strides=(9, VISIBLE_WH[0] * 3, 3, 1)
        )  # a batch of one strides nowhere
        engine.segment(array, pair(1)["thermal"][0])


@pytest.mark.parametrize("library", ["onnxruntime", "openvino"])
def test_on_the_cpu_arrays_of_a_gpu_are_refused(library: str, graph: Path) -> None:
    with (
        Engine.load(graph, backend=library) as engine,
        pytest.raises(DataError, match=f"{library} runs .* on the cpu;"),
    ):
        engine.segment(OnGpu(4096, SHAPE), pair(0)["thermal"][0])


def test_counts_on_the_gpu_want_the_rule_first(tmp_path: Path, script: Script) -> None:
    graph = write_areas(tmp_path / "a.onnx")
    manifest = read_manifest(graph)
    ruled = replace(manifest.inputs["thermal"], normalisation="fixed(7000,9000)")
    model = onnx.load(graph)
    manifest = replace(manifest, inputs=manifest.inputs | {"thermal": ruled})
    model.graph.name = manifest.network_name()
    onnx.helper.set_model_props(model, {"mdrun.manifest": manifest.to_json()})
    onnx.save(model, graph)
    write_plan(tmp_path / "a.plan", graph)
    with Engine.load(tmp_path / "a.plan") as engine:
        thermal = upload(script, pair(1)["thermal"][0])
        with pytest.raises(DataError, match=r"rule fixed\(7000,9000\) is applied on the host"):
            engine.segment(pair(1)["visible"][0], thermal)
        engine.segment(pair(1)["visible"][0], thermal, normalised=True)


def test_arrays_on_the_gpu_in_a_batch(graph: Path, tmp_path: Path, script: Script) -> None:
    graph = write_dynamic(tmp_path / "a.onnx", graph)
    write_plan(tmp_path / "a.plan", graph)
    with open_plan(tmp_path / "a.plan") as backend:
        feeds = [
            Preprocess(read_manifest(graph)).inputs(upload(script, pair(seed)["visible"]), pair(seed)["thermal"][0])
            for seed in (1, 2)
        ]
        found = backend.infer_batch(feeds)
    for got, want in zip(found, labels(graph, 1, 2), strict=True):
        np.testing.assert_array_equal(got["labels"], want)


class FakePyCuda(ModuleType):
    """`pycuda.driver` over the same device; names as in pycuda 2026.1 (src/wrapper/wrap_cudadrv.cpp)."""

    class Error(Exception):
        pass

    def __init__(self, cuda: FakeCuda) -> None:
        super().__init__("pycuda.driver")
        self.depth = 0
        outer = self

        class Memory(int):
            def free(self) -> None:
                cuda.cudaFree(int(self))

        class Stream:
            handle = cuda.cudaStreamCreateWithFlags(0)[1]

            def synchronize(self) -> None:
                assert outer.depth == 1
                cuda.cudaStreamSynchronize(self.handle)

        class Context:
            def push(self) -> None:
                outer.depth += 1

            @staticmethod
            def pop() -> None:
                outer.depth -= 1

            @staticmethod
            def synchronize() -> None:
                for stream in list(cuda._streams):
                    cuda.cudaStreamSynchronize(stream)

        class Device:
            def __init__(self, index: int) -> None: ...

            def retain_primary_context(self) -> Context:
                return Context()

        def mem_alloc(size: int) -> Memory:
            return Memory(cuda.cudaMalloc(size)[1])

        def memcpy(target: Any, source: Any, stream: Stream) -> None:
            target_address, source_address = (
                end if isinstance(end, int) else end.ctypes.data for end in (target, source)
            )
            size = next(end.nbytes for end in (target, source) if not isinstance(end, int))
            cuda.cudaMemcpyAsync(target_address, source_address, size, None, stream.handle)

        self.init = lambda: None
        self.Device, self.Stream, self.Context = Device, Stream, Context
        self.mem_alloc, self.pagelocked_empty = mem_alloc, np.empty
        self.memcpy_htod_async = self.memcpy_dtoh_async = memcpy


def test_pycuda_where_it_is_what_there_is(
    plan: Path, graph: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in RUNTIMES:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "pycuda", ModuleType("pycuda"))
    pycuda = FakePyCuda(script.cuda)
    monkeypatch.setitem(sys.modules, "pycuda.driver", pycuda)
    with open_plan(plan) as backend:
        assert isinstance(backend, TensorRtBackend)
        assert backend._memory.name == "pycuda"
        assert not backend._lanes[1].captured
        np.testing.assert_array_equal(backend.infer(pair(1))["labels"], labels(graph, 1)[0])
    with Engine.load(plan) as engine:
        found = engine.segment(upload(script, pair(2)["visible"]), pair(2)["thermal"][0])
        np.testing.assert_array_equal(found.label_map, labels(graph, 2)[0][0])
    assert pycuda.depth == 0


@pytest.mark.parametrize("version", list(NAMES))
def test_the_fake_tensorrt_has_no_name_of_its_own(version: str) -> None:
    for kind in CLASSES:
        if kind.__name__ in NAMES[version]:
            own = {name for name in vars(kind) if not name.startswith("_")} - OURS
            assert own <= set(NAMES[version][kind.__name__]), kind.__name__


def test_tensorrt_for_rtx_has_the_names_of_the_fake() -> None:
    library = pytest.importorskip("tensorrt_rtx", reason='wants pip install "mdrun[rtx]"', exc_type=ImportError)
    for kind in CLASSES:
        own = {name for name in vars(kind) if not name.startswith("_")} - OURS - {"Severity"}
        assert own <= set(dir(getattr(library, kind.__name__))), kind.__name__
    assert {"INPUT", "OUTPUT"} <= set(library.TensorIOMode.__members__)


def test_cuda_python_has_the_calls_of_the_fake() -> None:
    """Names and numbers of arguments, as the first line of each docstring says."""
    runtime = pytest.importorskip(RUNTIMES[0], reason="wants pip install cuda-python", exc_type=ImportError)
    for name, function in inspect.getmembers(FakeCuda, inspect.isfunction):
        if name.startswith("cuda"):
            signature = getattr(runtime, name).__doc__.splitlines()[0].partition("(")[2].partition(")")[0]
            arguments = [word for word in signature.split(",") if word.strip()]
            assert len(arguments) == len(inspect.signature(function).parameters) - 1, name
    for kind, members in ENUMS.items():
        theirs = getattr(runtime, kind)
        assert [(code.name, int(getattr(theirs, code.name))) for code in members] == [*((c.name, c) for c in members)]


def test_real_cuda_python_without_a_driver() -> None:
    pytest.importorskip(RUNTIMES[0], reason="wants pip install cuda-python", exc_type=ImportError)
    try:
        find_driver()
    except DriverError:
        pass
    else:
        pytest.skip("there is a driver")
    with pytest.raises(CudaError, match="CUDA: cudaStreamCreateWithFlags: cudaErrorInsufficientDriver: CUDA driver"):
        open_memory()
