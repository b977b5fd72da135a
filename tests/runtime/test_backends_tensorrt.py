"""The TensorRT backend on a stand-in for the GPU that is held to the real names, and on none."""

from __future__ import annotations

import ctypes
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest

from mdrun.backends import Backend, Feeds, open_backend, tensorrt
from mdrun.backends.cuda import RUNTIMES, CudaError, open_memory
from mdrun.backends.nvidia.library import load_library
from mdrun.backends.tensorrt import TensorRtBackend
from mdrun.driver import Driver, DriverError, Gpu, find_driver
from mdrun.engine import Engine
from mdrun.errors import BackendError, DataError, EngineError, UsageError
from mdrun.manifest import ManifestError
from mdrun.onnx_file import read_manifest
from tests.export.fake_tensorrt import NAMES
from tests.runtime import fake_gpu
from tests.runtime.engines import THERMAL_WH, VISIBLE_WH, make_manifest, write_areas
from tests.runtime.fake_gpu import CLASSES, ENUMS, MAGIC, ORIN, OURS, Code, FakeCuda, Script, describe_build, write_plan


@dataclass
class OnGpu:
    """An array in the memory of a device, as CuPy or torch show it."""

    pointer: int
    shape: tuple[int, ...]
    typestr: str = "|u1"
    strides: tuple[int, ...] | None = None
    stream: int | None = None
    mask: object = None

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        keys = {"strides": self.strides, "stream": self.stream, "mask": self.mask, "version": 3}
        return {"data": (self.pointer, False), "shape": self.shape, "typestr": self.typestr} | keys


@pytest.fixture(autouse=True)
def _forget_the_fake() -> Iterator[None]:
    yield
    load_library.cache_clear()


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Script]:
    """Put a GPU into this machine."""

    def put(script: Script | None = None, module: str = "tensorrt", driver: Driver = ORIN) -> Script:
        script = script or Script()
        monkeypatch.setitem(sys.modules, module, fake_gpu.make_tensorrt(script, module))
        monkeypatch.setitem(sys.modules, RUNTIMES[0], script.cuda)
        monkeypatch.setattr(tensorrt, "find_driver", lambda: driver)
        load_library.cache_clear()
        return script

    return put


@pytest.fixture
def script(install: Callable[..., Script]) -> Script:
    return install()


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_areas(tmp_path_factory.mktemp("graph") / "areas.onnx")


@pytest.fixture
def plan(graph: Path, tmp_path: Path) -> Path:
    path = tmp_path / "areas.plan"
    write_plan(path, graph)
    return path


def pair(seed: int) -> Feeds:
    rng = np.random.default_rng(seed)
    visible = rng.integers(0, 256, (1, *VISIBLE_WH[::-1], 3), np.uint8)
    return {"visible": visible, "thermal": rng.integers(0, 256, (1, *THERMAL_WH[::-1]), np.uint8)}


def open_plan(path: Path) -> Backend:
    return open_backend(path, read_manifest(path))


def labels(graph: Path, *seeds: int) -> list[Any]:
    """What ONNX Runtime gives."""
    with open_backend(graph, read_manifest(graph), backend="onnxruntime") as backend:
        return [backend.infer(pair(seed))["labels"].copy() for seed in seeds]


@pytest.mark.parametrize("version", list(NAMES))
def test_outputs_are_those_of_the_network(
    version: str, graph: Path, tmp_path: Path, install: Callable[..., Script]
) -> None:
    script = install(Script(version))
    write_plan(tmp_path / "a.engine", graph, describe_build(version))
    wanted = labels(graph, 1, 2)
    with open_plan(tmp_path / "a.engine") as backend:
        assert (backend.name, backend.device, backend.max_batch) == ("tensorrt", "cuda:0", 1)
        assert backend.reason == "what runs .engine files"
        for seed, want in zip((1, 2), wanted, strict=True):
            np.testing.assert_array_equal(backend.infer(pair(seed))["labels"], want)
    assert not any(script.cuda.live.values()), script.cuda.live  # whatever was made is freed, and once


def test_tensorrt_for_rtx_is_the_same_code(graph: Path, tmp_path: Path, install: Callable[..., Script]) -> None:
    install(Script("11.4.0.106"), "tensorrt_rtx")
    write_plan(tmp_path / "a.rtx", graph, describe_build("11.4.0.106", "rtx"))
    with Engine.load(tmp_path / "a.rtx") as engine:
        assert (engine.backend, engine.device, engine.backend_reason) == (
            "tensorrt-rtx",
            "cuda:0",
            "what runs .rtx files",
        )
        found = engine.segment(pair(1)["visible"][0], pair(1)["thermal"][0])
        np.testing.assert_array_equal(found.label_map, labels(graph, 1)[0][0])


def test_a_frame_is_one_graph_launch_and_no_allocation(plan: Path, script: Script) -> None:
    with open_plan(plan) as backend:
        backend.infer(pair(0))
        before, told = script.cuda.calls.copy(), len(script.told)
        first = backend.infer(pair(1))
        for seed in range(2, 5):
            assert backend.infer(pair(seed)) is first  # the very dictionary of the very arrays
        assert script.cuda.calls - before == {"cudaGraphLaunch": 4, "cudaStreamSynchronize": 4}
        assert len(script.told) == told  # the network itself is in the graph


def test_where_capture_is_refused_each_run_goes_on_the_stream(
    plan: Path, graph: Path, install: Callable[..., Script]
) -> None:
    script = install(Script(capturable=False))
    with open_plan(plan) as backend:
        before = script.cuda.calls.copy()
        np.testing.assert_array_equal(backend.infer(pair(1))["labels"], labels(graph, 1)[0])
        assert script.cuda.calls - before == {"cudaMemcpyAsync": 3, "cudaStreamSynchronize": 1}
    assert not any(script.cuda.live.values()), script.cuda.live


@pytest.mark.parametrize("function", ["cudaStreamBeginCapture", "cudaStreamEndCapture", "cudaGraphInstantiate"])
def test_where_cuda_refuses_the_graph(function: str, plan: Path, graph: Path, script: Script) -> None:
    script.cuda.fails[function] = Code.cudaErrorStreamCaptureUnsupported
    with open_plan(plan) as backend:
        np.testing.assert_array_equal(backend.infer(pair(1))["labels"], labels(graph, 1)[0])


def upload(script: Script, array: Any, **options: Any) -> OnGpu:
    _, pointer = script.cuda.cudaMalloc(array.nbytes)
    script.cuda.put(77, lambda: ctypes.memmove(pointer, array.ctypes.data, array.nbytes))  # a stream of its owner's
    return OnGpu(pointer, array.shape, **({"stream": 77} | options))


def test_an_array_on_the_gpu_is_read_where_it_lies(plan: Path, graph: Path, script: Script) -> None:
    images, script.cuda._streams[77] = pair(1), []
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
    script.cuda._streams[77] = []
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
    script.cuda._streams[77] = []
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
    script.cuda._streams[77] = []
    with Engine.load(tmp_path / "a.plan") as engine:
        thermal = upload(script, pair(1)["thermal"][0])
        with pytest.raises(DataError, match=r"rule fixed\(7000,9000\) is applied on the host"):
            engine.segment(pair(1)["visible"][0], thermal)
        engine.segment(pair(1)["visible"][0], thermal, normalised=True)


def write_dynamic(path: Path) -> Path:
    model = onnx.load(write_areas(path))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, path)
    return path


def test_batches_up_to_what_the_plan_was_built_for(tmp_path: Path, script: Script) -> None:
    graph = write_dynamic(tmp_path / "a.onnx")
    write_plan(tmp_path / "a.plan", graph)
    wanted = labels(graph, *range(7))
    with open_plan(tmp_path / "a.plan") as backend:
        assert backend.max_batch == 4
        for count in (1, 2, 3, 7):
            found = backend.infer_batch([pair(seed) for seed in range(count)])
            for got, want in zip(found, wanted, strict=False):
                np.testing.assert_array_equal(got["labels"], want)
        kept = backend.infer_batch([pair(0), pair(1)])
        before = script.cuda.calls.copy()
        backend.infer_batch([pair(5), pair(6)])
        assert script.cuda.calls - before == {"cudaGraphLaunch": 1, "cudaStreamSynchronize": 1}
        np.testing.assert_array_equal(kept[1]["labels"], wanted[1])  # not overwritten
    sizes = {words[2][0] for words in script.told if words[0] == "set_input_shape"}
    assert sizes == {1, 2, 3, 4}
    assert not any(script.cuda.live.values())


def test_arrays_on_the_gpu_in_a_batch(tmp_path: Path, script: Script) -> None:
    graph = write_dynamic(tmp_path / "a.onnx")
    write_plan(tmp_path / "a.plan", graph)
    script.cuda._streams[77] = []
    from mdrun.preprocess import Preprocess

    with open_plan(tmp_path / "a.plan") as backend:
        feeds = [
            Preprocess(read_manifest(graph)).inputs(upload(script, pair(seed)["visible"]), pair(seed)["thermal"][0])
            for seed in (1, 2)
        ]
        found = backend.infer_batch(feeds)
    for got, want in zip(found, labels(graph, 1, 2), strict=True):
        np.testing.assert_array_equal(got["labels"], want)


def test_without_a_driver_tensorrt_is_not_touched(
    plan: Path, install: Callable[..., Script], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = install()

    def none() -> Driver:
        raise DriverError("no CUDA driver here")

    monkeypatch.setattr(tensorrt, "find_driver", none)
    with pytest.raises(BackendError, match="no CUDA driver here, and TensorRT runs on NVIDIA GPUs only; run the"):
        open_plan(plan)
    assert not script.told


def test_a_runtime_that_does_not_start_is_an_error(plan: Path, install: Callable[..., Script]) -> None:
    """As NVIDIA's does with a driver that is too old: an object comes back, and using it would kill the process."""
    install(Script(runtime_says=("CUDA initialization failure with error: 35",)))
    with pytest.raises(BackendError, match="did not start a runtime: CUDA initialization failure with error: 35"):
        open_plan(plan)


@pytest.mark.parametrize(
    ("version", "driver", "words"),
    [
        (
            "10.3.0",
            ORIN,
            "library: built for TensorRT 10.16.1.11, exactly this, here is TensorRT 10.3.0; build it again",
        ),
        (
            "10.16.1.11",
            Driver("12.6", (Gpu("RTX 3090", "8.6"),)),
            "GPU: built for Orin, compute capability 8.7, here is RTX 3090, compute capability 8.6; "
            "build it again here: mdexport plan student.onnx --output student.plan",
        ),
    ],
)
def test_a_plan_for_another_machine(
    version: str, driver: Driver, words: str, plan: Path, install: Callable[..., Script]
) -> None:
    script = install(Script(version), driver=driver)
    with pytest.raises(BackendError) as caught:
        open_plan(plan)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not script.told  # the library was not asked


def test_a_plan_with_machine_code_is_refused(graph: Path, tmp_path: Path, script: Script) -> None:
    build = replace(describe_build(), options={"version-compatible": "yes", "allow-host-code": "yes"})
    write_plan(tmp_path / "a.plan", graph, build)
    with pytest.raises(BackendError, match="runs machine code out of the plan"):
        open_plan(tmp_path / "a.plan")


def test_a_plan_of_the_other_library(graph: Path, tmp_path: Path, script: Script) -> None:
    write_plan(tmp_path / "a.plan", graph, describe_build(target="rtx"))
    with pytest.raises(BackendError, match="an engine of TensorRT for RTX by its manifest"):
        open_plan(tmp_path / "a.plan")


def test_garbage_is_told_in_the_library_s_words(plan: Path, script: Script) -> None:
    plan.write_bytes(b"not a plan")
    with pytest.raises(BackendError, match=r"did not load it: Serialization assertion .*; build it again here: "):
        open_plan(plan)


def test_a_plan_with_the_manifest_of_another(plan: Path, graph: Path, script: Script) -> None:
    """Told before the library sees it where the name can be read, and by the library's word where it cannot."""
    other = write_plan(plan.with_name("b.plan"), graph, replace(describe_build(), command="mdexport plan other.onnx"))
    plan.with_suffix(".json").write_text(other.to_json())
    with pytest.raises(ManifestError, match="come from different exports"):
        open_plan(plan)
    assert not script.told
    model = onnx.load_from_string(plan.read_bytes().removeprefix(MAGIC))
    model.graph.name = "unnamed"
    plan.write_bytes(MAGIC + model.SerializeToString())
    with pytest.raises(ManifestError, match="the network is 'unnamed'"):
        open_plan(plan)


def test_a_plan_whose_tensors_are_not_its_manifest_s(plan: Path, tmp_path: Path, script: Script) -> None:
    manifest = replace(make_manifest("areas", thermal_wh=THERMAL_WH), build=describe_build())
    model = onnx.load_from_string(plan.read_bytes().removeprefix(MAGIC))
    model.graph.name = manifest.network_name()
    plan.write_bytes(MAGIC + model.SerializeToString())
    plan.with_suffix(".json").write_text(manifest.to_json())
    with pytest.raises(EngineError, match=r"output boxes is missing.*output labels is not in the manifest"):
        open_plan(plan)


def test_an_engine_of_ultralytics(plan: Path) -> None:
    metadata = b'{"task": "detect"}'
    plan.write_bytes(len(metadata).to_bytes(4, "little") + metadata + b"ftrt")
    with pytest.raises(EngineError, match="an engine of Ultralytics, 18 bytes of JSON before the plan; mdrun runs"):
        read_manifest(plan)


@pytest.mark.parametrize(("content", "words"), [(b"", "is empty"), (None, "No such file")])
def test_no_plan_at_all(content: bytes | None, words: str, plan: Path, script: Script) -> None:
    manifest = read_manifest(plan)
    plan.unlink()
    if content is not None:
        plan.write_bytes(content)
    with pytest.raises(EngineError, match=words):
        open_backend(plan, manifest)


def test_without_the_library(plan: Path, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendError, match=r'TensorRT does not import .*pip install "mdrun\[tensorrt\]"'):
        open_plan(plan)


def test_without_anything_that_lends_memory(plan: Path, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*RUNTIMES, "pycuda.driver", "pycuda"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendError, match=r"no package lends CUDA memory here .*; pip install cuda-python"):
        open_plan(plan)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino", "tensorrt-rtx", "onnxruntime-tensorrt"])
def test_a_plan_runs_in_its_library_only(backend: str, plan: Path) -> None:
    with pytest.raises(UsageError, match=f"backend is {backend!r}, wanted tensorrt for such a file"):
        open_backend(plan, read_manifest(plan), backend=backend)


def test_a_run_that_fails_is_one_line(plan: Path, script: Script) -> None:
    with open_plan(plan) as backend:
        script.cuda.fails["cudaStreamSynchronize"] = Code.cudaErrorIllegalAddress
        words = "areas: CUDA: cudaStreamSynchronize: cudaErrorIllegalAddress: words for cudaErrorIllegalAddress"
        with pytest.raises(EngineError, match=words):
            backend.infer(pair(1))


def test_an_engine_that_does_not_run_is_refused_when_it_is_loaded(plan: Path, install: Callable[..., Script]) -> None:
    script = install(Script(runs=False))
    with pytest.raises(BackendError, match=r"TensorRT 10\.16\.1\.11 did not run: it gave no reason"):
        open_plan(plan)
    assert not any(script.cuda.live.values())


def test_too_little_memory(plan: Path, script: Script) -> None:
    script.cuda.fails["cudaMalloc"] = Code.cudaErrorMemoryAllocation
    with pytest.raises(BackendError, match="cudaMalloc: cudaErrorMemoryAllocation"):
        open_plan(plan)
    assert not any(script.cuda.live.values())


def test_closed(plan: Path, script: Script) -> None:
    backend = open_plan(plan)
    kept = backend.infer(pair(1))["labels"]
    backend.close()
    backend.close()
    assert kept.shape == (1, *VISIBLE_WH[::-1])  # memory of the host lives as long as its arrays
    assert script.cuda.live["cudaFreeHost"]
    with pytest.raises(EngineError, match="closed"):
        backend.infer(pair(1))


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
    script.cuda._streams[77] = []
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
