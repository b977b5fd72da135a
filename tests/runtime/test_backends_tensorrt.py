"""The TensorRT backend on a stand-in for the GPU that is held to the real names, and on none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest

from mdrun.backends import open_backend, tensorrt
from mdrun.backends.cuda import RUNTIMES
from mdrun.backends.nvidia.library import load_library
from mdrun.driver import Driver, DriverError, Gpu
from mdrun.engine import Engine
from mdrun.errors import BackendError, EngineError, UsageError
from mdrun.manifest import ManifestError
from mdrun.onnx_file import read_manifest
from tests.export.fake_tensorrt import NAMES
from tests.runtime.engines import THERMAL_WH, VISIBLE_WH, make_manifest, write_areas
from tests.runtime.fake_gpu import MAGIC, ORIN, Code, Script, describe_build, write_plan
from tests.runtime.plans import labels, open_plan, pair, put_gpu, write_dynamic

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


@pytest.mark.parametrize("version", list(NAMES))
def test_outputs_are_those_of_the_network(version: str, graph: Path, tmp_path: Path, install: Install) -> None:
    script = install(Script(version))
    write_plan(tmp_path / "a.engine", graph, describe_build(version))
    wanted = labels(graph, 1, 2)
    with open_plan(tmp_path / "a.engine") as backend:
        assert (backend.name, backend.device, backend.max_batch) == ("tensorrt", "cuda:0", 1)
        assert backend.reason == "what runs .engine files"
        for seed, want in zip((1, 2), wanted, strict=True):
            np.testing.assert_array_equal(backend.infer(pair(seed))["labels"], want)
    assert not any(script.cuda.live.values()), script.cuda.live  # whatever was made is freed, and once


def test_tensorrt_for_rtx_is_the_same_code(graph: Path, tmp_path: Path, install: Install) -> None:
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


def test_where_capture_is_refused_each_run_goes_on_the_stream(plan: Path, graph: Path, install: Install) -> None:
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


def test_batches_up_to_what_the_plan_was_built_for(graph: Path, tmp_path: Path, script: Script) -> None:
    graph = write_dynamic(tmp_path / "a.onnx", graph)
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


def test_without_a_driver_tensorrt_is_not_touched(
    plan: Path, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = install()

    def none() -> Driver:
        raise DriverError("no CUDA driver here")

    monkeypatch.setattr(tensorrt, "find_driver", none)
    with pytest.raises(BackendError, match="no CUDA driver here, and TensorRT runs on NVIDIA GPUs only; run the"):
        open_plan(plan)
    assert not script.told


def test_a_runtime_that_does_not_start_is_an_error(plan: Path, install: Install) -> None:
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
def test_a_plan_for_another_machine(version: str, driver: Driver, words: str, plan: Path, install: Install) -> None:
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
    with pytest.raises(ManifestError, match="come from different exports, export again with `mdexport plan`"):
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


def test_a_plan_that_was_cut(plan: Path, graph: Path, script: Script) -> None:
    """Told before the library sees it, by the size in its manifest, which the network's name does not cover."""
    size = plan.stat().st_size
    manifest = write_plan(plan, graph, replace(describe_build(), bytes=size))
    assert manifest.network_name() == replace(manifest, build=describe_build()).network_name()
    open_plan(plan).close()
    script.told.clear()
    plan.write_bytes(plan.read_bytes()[: size // 2])
    with pytest.raises(EngineError, match=rf"has {size // 2} bytes, and was built with {size}: it is not whole"):
        open_plan(plan)
    assert not script.told


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


def test_an_engine_that_does_not_run_is_refused_when_it_is_loaded(plan: Path, install: Install) -> None:
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
