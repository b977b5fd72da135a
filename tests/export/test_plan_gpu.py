"""Engines built, run and compared on a real GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mdexport.plan.explain import explain
from mdexport.plan.maker import make_plan
from mdexport.plan.options import PlanOptions
from mdrun.backends.nvidia.library import Library, library_version, load_library
from mdrun.backends.ort import import_onnxruntime
from mdrun.driver import DriverError, find_driver
from mdrun.onnx_file import read_manifest
from mdrun.pairing import PairLimits, PairStream
from mdrun.preprocess import Preprocess
from mdrun.sources import open_pair
from tests.export.plan_models import SHIPPED, write_fp16, write_int8

pytestmark = pytest.mark.gpu

WRITERS = {"fp32": lambda path: SHIPPED, "fp16": write_fp16, "int8": write_int8}
MOST_DIFFERENT_SCORE = {"fp32": 0.02, "fp16": 0.05, "int8": 0.3}  # the first uses TF32, the last noise as calibration
TO_DEVICE, TO_HOST = 1, 2  # cudaMemcpyKind


@pytest.fixture(params=["tensorrt", "rtx"])
def target(request: pytest.FixtureRequest) -> str:
    target = str(request.param)
    try:
        gpu = find_driver().gpus[0]
    except DriverError as error:
        pytest.skip(str(error))
    if library_version(target) is None:
        pytest.skip(f"no library for --target {target}")
    if target == "rtx" and gpu.compute_capability not in ("8.0", "8.6", "8.9", "12.0", "12.1"):
        pytest.skip(f"TensorRT for RTX does not know {gpu.name}")
    return target


@pytest.mark.parametrize("precision", list(WRITERS))
def test_an_engine_sees_what_its_onnx_sees(precision: str, target: str, tmp_path: Path) -> None:
    onnx = WRITERS[precision](tmp_path / "student.onnx")
    output = tmp_path / ("student.rtx" if target == "rtx" else "student.plan")
    made = make_plan(onnx, output, PlanOptions(target=target))
    assert made.count.of == ("network" if target == "rtx" else "engine")
    assert made.count.share(precision) >= 0.5
    assert explain(output).runs_here == "yes"
    feeds = pair()
    wanted = reference(onnx, feeds)
    got = run(load_library(target), output.read_bytes(), feeds)
    assert set(got) == set(wanted)
    assert np.abs(got["scores"] - wanted["scores"]).max() <= MOST_DIFFERENT_SCORE[precision]


def test_a_timing_cache_makes_the_second_build_faster(tmp_path: Path, target: str) -> None:
    if target == "rtx":
        pytest.skip("TensorRT for RTX has no timing cache")
    options = PlanOptions(timing_cache=tmp_path / "times")
    first, second = (make_plan(SHIPPED, tmp_path / f"{name}.plan", options).seconds for name in ("a", "b"))
    assert second < first


def pair() -> dict[str, NDArray[np.uint8]]:
    """A frame of the built-in street, at the size the student takes."""
    street = "test://street?seed=3&duration=0.5"
    with PairStream(*open_pair(street, street), PairLimits()) as stream:
        found = next(pair for pair in stream if pair.thermal is not None)
    assert found.thermal is not None
    return Preprocess(read_manifest(SHIPPED))(found.visible.image, found.thermal.image)


def reference(onnx: Path, feeds: dict[str, NDArray[np.uint8]]) -> dict[str, NDArray[Any]]:
    """The same ONNX file in ONNX Runtime on the CPU."""
    session = import_onnxruntime().InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def run(library: Library, engine_bytes: bytes, feeds: dict[str, NDArray[np.uint8]]) -> dict[str, NDArray[Any]]:
    """One inference with the library that built the engine; memory by the CUDA runtime, through `cuda.bindings`."""
    cuda = pytest.importorskip("cuda.bindings.runtime")

    def checked(result: tuple[Any, ...]) -> Any:
        assert int(result[0]) == 0, result[0]
        return result[1] if len(result) > 1 else None

    runtime = library.api.Runtime(library.log)
    engine = runtime.deserialize_cuda_engine(engine_bytes)
    context = engine.create_execution_context()
    stream = checked(cuda.cudaStreamCreate())
    arrays: dict[str, NDArray[Any]] = {}
    memory: dict[str, int] = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        shape = [int(size) for size in engine.get_tensor_shape(name)[:]]
        kinds = {"UINT8": np.uint8, "FLOAT": np.float32, "INT32": np.int32, "INT64": np.int64}
        arrays[name] = feeds.get(name, np.empty(shape, kinds[engine.get_tensor_dtype(name).name]))
        memory[name] = int(checked(cuda.cudaMalloc(arrays[name].nbytes)))
        assert context.set_tensor_address(name, memory[name])
        if name in feeds:
            copy(cuda, checked, memory[name], arrays[name].ctypes.data, arrays[name].nbytes, TO_DEVICE)
    assert context.execute_async_v3(int(stream))
    checked(cuda.cudaStreamSynchronize(stream))
    for name, array in arrays.items():
        if name not in feeds:
            copy(cuda, checked, array.ctypes.data, memory[name], array.nbytes, TO_HOST)
        checked(cuda.cudaFree(memory[name]))
    return {name: array for name, array in arrays.items() if name not in feeds}


def copy(cuda: Any, checked: Any, target: int, source: int, size: int, kind: int) -> None:
    checked(cuda.cudaMemcpy(target, source, size, cuda.cudaMemcpyKind(kind)))
