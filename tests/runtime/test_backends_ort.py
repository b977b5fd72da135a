"""ONNX Runtime on a GPU: the provider that was asked for is the one that runs, or an error says what is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from mdrun.backends import open_backend, ort
from mdrun.backends.base import Inputs
from mdrun.backends.cuda_array import CudaArray
from mdrun.backends.ort import CPU, CUDA, PLACES, TENSORRT, OrtBackend
from mdrun.driver import Driver, DriverError, Gpu
from mdrun.errors import BackendError, EngineError
from mdrun.onnx_file import read_manifest
from tests.runtime.engines import THERMAL_WH, VISIBLE_WH, write_areas, write_blob

H100 = Driver("13.0", (Gpu("H100", "9.0"),))


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_areas(tmp_path_factory.mktemp("graph") / "areas.onnx")


@pytest.fixture
def gpu_wheel(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], list[Any]]:
    """The library says that it was built for GPUs, as onnxruntime-gpu does anywhere; its session has `loaded` ones."""

    def put(loaded: list[str]) -> list[Any]:
        asked: list[Any] = []
        real = onnxruntime.InferenceSession

        class Session(real):  # type: ignore[misc, valid-type]  # no type information
            def __init__(self, path: str, options: Any, *, providers: list[Any], enable_fallback: int) -> None:
                asked.extend(providers)
                assert enable_fallback == 0
                super().__init__(path, options, providers=[CPU])

            def get_providers(self) -> list[str]:
                return loaded

        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
        monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
        monkeypatch.setattr(ort, "find_driver", lambda: H100)
        return asked

    return put


@pytest.mark.parametrize("name", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_the_cpu_library_runs_nothing_on_a_gpu(name: str, graph: Path) -> None:
    """The real library of this environment."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this is onnxruntime-gpu")
    with pytest.raises(BackendError) as caught:
        open_backend(graph, read_manifest(graph), backend=name)
    line = str(caught.value)
    assert f"asked for {name}, and the ONNX Runtime installed here, {onnxruntime.__version__}, has only " in line
    assert line.endswith('; pip uninstall onnxruntime, then pip install "mdrun[gpu]"')
    assert "\n" not in line


def test_without_a_driver(graph: Path, gpu_wheel: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = gpu_wheel([CUDA, CPU])

    def none() -> Driver:
        raise DriverError("no CUDA driver here")

    monkeypatch.setattr(ort, "find_driver", none)
    with pytest.raises(BackendError, match="asked for onnxruntime-cuda: no CUDA driver here; install NVIDIA's driver"):
        open_backend(graph, read_manifest(graph), backend="onnxruntime-cuda")
    assert not asked


@pytest.mark.parametrize(
    ("name", "loaded", "needs"),
    [
        ("onnxruntime-cuda", [CPU], "CUDAExecutionProvider did not load, it needs CUDA 13.0 and cuDNN"),
        (
            "onnxruntime-tensorrt",
            [CUDA, CPU],
            "TensorrtExecutionProvider did not load, it needs TensorRT, CUDA 13.0 and",
        ),
    ],
)
def test_a_provider_that_did_not_load_is_an_error(
    name: str,
    loaded: list[str],
    needs: str,
    graph: Path,
    gpu_wheel: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """onnxruntime-gpu gives a session on the CPU then, without a word (seen with 1.31.1)."""
    gpu_wheel(loaded)
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0", raising=False)
    with pytest.raises(BackendError, match=f"runs it on {', '.join(loaded)}: {needs}"):
        open_backend(graph, read_manifest(graph), backend=name)


@pytest.mark.parametrize(
    ("precision", "allowed"), [("fp32", {}), ("fp16", {"trt_fp16_enable": "1"}), ("int8", {"trt_int8_enable": "1"})]
)
def test_what_is_asked_for(
    precision: str, allowed: dict[str, str], tmp_path: Path, gpu_wheel: Callable[..., Any]
) -> None:
    graph = write_blob(tmp_path / "blob.onnx", precision=precision)
    asked = gpu_wheel([TENSORRT, CUDA, CPU])
    with open_backend(graph, read_manifest(graph), backend="onnxruntime-tensorrt") as backend:
        assert (backend.name, backend.device, backend.reason) == ("onnxruntime-tensorrt", "cuda:0", "asked for")
    assert asked == [(TENSORRT, {"device_id": "0"} | allowed), (CUDA, {"device_id": "0"}), (CPU, {})]


def test_on_the_cpu_nothing_else_is_asked_for(graph: Path) -> None:
    assert PLACES["onnxruntime"].providers == (CPU,)
    with open_backend(graph, read_manifest(graph), backend="onnxruntime") as backend:
        assert (backend.name, backend.device) == ("onnxruntime", "cpu")


def test_a_provider_that_fails_to_start(
    graph: Path, gpu_wheel: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu_wheel([CUDA, CPU])

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("/src/state.cc:729 void Register(Options&, int)\nPlease install TensorRT")

    monkeypatch.setattr(onnxruntime, "InferenceSession", fail)
    with pytest.raises(BackendError, match="onnxruntime-cuda does not start: Please install TensorRT; `mdrun doctor`"):
        open_backend(graph, read_manifest(graph), backend="onnxruntime-cuda")


class OnThisMachine(OrtBackend):
    """Takes addresses of this process for those of a GPU, so that the real library binds them."""

    device = "cpu"
    takes_cuda_arrays = True

    def __init__(self, path: Path) -> None:
        super().__init__(path, read_manifest(path), threads=1)
        self.takes_cuda_arrays = True


def test_inputs_are_bound_where_they_lie(graph: Path) -> None:
    """The real ONNX Runtime reads the very memory: what is written there later is what the next run sees."""
    visible = np.zeros((1, *VISIBLE_WH[::-1], 3), np.uint8)
    thermal = np.zeros((1, *THERMAL_WH[::-1]), np.uint8)
    bound = CudaArray(visible.ctypes.data, visible.shape, visible.dtype, None, visible)
    with OnThisMachine(graph) as backend:
        feeds: Inputs = {"visible": bound, "thermal": thermal}
        assert not backend.infer(feeds)["labels"].any()
        visible[..., 0] = 255
        first = backend.infer(feeds)["labels"]
        assert (first == first[0, 0, 0]).all()
        assert first.any()
        visible[:] = 0
        assert not backend.infer_batch([feeds, feeds])[1]["labels"].any()
        assert first.any()


def test_another_library_s_stream_is_waited_for(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[Any] = []

    class Memory:
        def wait_for(self, stream: int) -> None:
            waited.append(stream)

        def close(self) -> None:
            waited.append("closed")

    monkeypatch.setattr(ort, "open_memory", Memory)
    visible = np.zeros((1, *VISIBLE_WH[::-1], 3), np.uint8)
    thermal = np.zeros((1, *THERMAL_WH[::-1]), np.uint8)
    with OnThisMachine(graph) as backend:
        for stream in (None, 1, 77):
            bound = CudaArray(visible.ctypes.data, visible.shape, visible.dtype, stream, visible)
            backend.infer({"visible": bound, "thermal": thermal})
    assert waited == [1, 77, "closed"]


def test_a_run_never_falls_back_to_another_provider(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = OnThisMachine(graph)
    with backend:
        assert backend._session is not None
        assert backend._session._enable_fallback is False
        monkeypatch.setattr(backend._session, "run", lambda *_: (_ for _ in ()).throw(RuntimeError("broken\nthing")))
        with pytest.raises(EngineError, match="areas: ONNX Runtime failed: broken thing; export the engine again"):
            backend.infer(
                {
                    "visible": np.zeros((1, *VISIBLE_WH[::-1], 3), np.uint8),
                    "thermal": np.zeros((1, *THERMAL_WH[::-1]), np.uint8),
                }
            )
