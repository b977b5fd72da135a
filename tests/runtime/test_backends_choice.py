"""`--backend auto`: which library it takes, and that it says why."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from mdrun.backends import AUTO, BACKENDS, LIBRARIES, choice, open_backend
from mdrun.backends.choice import Choice, choose
from mdrun.driver import Driver, DriverError, Gpu
from mdrun.engine import Engine
from mdrun.errors import BackendError, UsageError
from mdrun.manifest import Manifest
from tests.runtime.engines import THERMAL_WH, make_manifest, write_blob

ONNX = Path("student.onnx")
FIRST = "the first engine library that is installed"


def in_precision(precision: str) -> Manifest:
    manifest = make_manifest(thermal_wh=THERMAL_WH)
    return replace(manifest, origin=replace(manifest.origin, precision=precision))


Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """A machine with these packages, this GPU and these processor features."""

    def put(*packages: str, gpu: str | None = None, features: str = "avx2", kind: str = "x86_64") -> None:
        def find(name: str) -> object:
            return name if name in packages or (name, "onnxruntime-gpu") == ("onnxruntime", packages[0]) else None

        def distribution(name: str) -> str:
            if name not in packages:
                raise metadata.PackageNotFoundError(name)
            return name

        def driver() -> Driver:
            if gpu is None:
                raise DriverError("no CUDA driver here")
            return Driver("13.0", (Gpu(gpu, "9.0"),))

        cpuinfo = tmp_path / "cpuinfo"
        cpuinfo.write_text(f"processor : 0\nflags : fpu {features} sse\n")
        monkeypatch.setattr(choice, "find_spec", find)
        monkeypatch.setattr(metadata, "distribution", distribution)
        monkeypatch.setattr(choice, "find_driver", driver)
        monkeypatch.setattr(choice, "CPU_FLAGS", cpuinfo)
        monkeypatch.setattr(platform, "machine", lambda: kind)

    return put


def test_onnx_on_the_cpu_is_the_first_that_is_installed(machine: Machine) -> None:
    machine("onnxruntime", "openvino")
    for precision in ("fp32", "fp16", "int8"):
        assert choose(ONNX, in_precision(precision)) == [Choice(name, FIRST) for name in LIBRARIES]
    machine("openvino")
    assert choose(ONNX, in_precision("fp32")) == [Choice("openvino", FIRST)]


def test_int8_with_amx_is_openvino_s(machine: Machine) -> None:
    """docs/engines.md has the figures; without AMX both are about as fast and ONNX Runtime starts sooner."""
    machine("onnxruntime", "openvino", features="avx512_vnni amx_int8")
    first, *rest = choose(ONNX, in_precision("int8"))
    assert first == Choice("openvino", "int8 on a processor with AMX, where it is the fastest")
    assert rest[0].backend == "onnxruntime"
    assert choose(ONNX, in_precision("fp32"))[0].backend == "onnxruntime"
    machine("onnxruntime", features="amx_int8")
    assert choose(ONNX, in_precision("int8"))[0].backend == "onnxruntime"
    machine("onnxruntime", "openvino", features="amx_int8", kind="aarch64")
    assert choose(ONNX, in_precision("int8"))[0].backend == "onnxruntime"


def test_bf16_is_openvino_s(machine: Machine) -> None:
    machine("onnxruntime", "openvino")
    assert choose(ONNX, in_precision("bf16")) == [Choice("openvino", "bf16, which ONNX Runtime does not run on a CPU")]


def test_a_gpu_and_the_library_for_it(machine: Machine) -> None:
    machine("onnxruntime-gpu", gpu="H100")
    assert [found.backend for found in choose(ONNX, in_precision("fp32"))] == ["onnxruntime-cuda", "onnxruntime"]
    assert choose(ONNX, in_precision("fp32"))[0].reason == "onnxruntime-gpu is installed, and there is a H100"
    machine("onnxruntime-gpu")  # no GPU
    assert [found.backend for found in choose(ONNX, in_precision("fp32"))] == ["onnxruntime"]
    machine("onnxruntime", gpu="H100")  # the library for the CPU
    assert [found.backend for found in choose(ONNX, in_precision("fp32"))] == ["onnxruntime"]


@pytest.mark.parametrize(("suffix", "backend"), choice.OF_PLANS.items())
def test_plans_by_their_names(suffix: str, backend: str) -> None:
    path = ONNX.with_suffix(suffix)
    assert choose(path, in_precision("fp16")) == [Choice(backend, f"what runs {suffix} files")]
    assert choose(path, in_precision("fp16"), backend) == [Choice(backend, "asked for")]
    with pytest.raises(UsageError, match=f"backend is 'openvino', wanted {backend} for such a file; or leave it out"):
        choose(path, in_precision("fp16"), "openvino")


def test_an_onnx_file_is_no_plan() -> None:
    with pytest.raises(UsageError, match="backend is 'tensorrt', wanted onnxruntime, openvino, onnxruntime-cuda, onnx"):
        choose(ONNX, in_precision("fp16"), "tensorrt")


def test_where_nothing_is_installed_the_error_is_the_usual_library_s(machine: Machine) -> None:
    machine("numpy")
    assert [found.backend for found in choose(ONNX, in_precision("fp32"))] == ["onnxruntime"]


def test_no_flags_to_read(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine("onnxruntime", "openvino", features="amx_int8")
    monkeypatch.setattr(choice, "CPU_FLAGS", tmp_path / "nothing")
    assert choose(ONNX, in_precision("int8"))[0].backend == "onnxruntime"


def test_auto_goes_on_where_the_best_does_not_start(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU and onnxruntime-gpu by its name, but the library that is really here is the one for CPUs."""
    path = write_blob(tmp_path / "blob.onnx")
    machine("onnxruntime-gpu", gpu="H100")
    with Engine.load(path, backend=AUTO) as engine:
        assert engine.backend == "onnxruntime"
        assert engine.backend_reason.startswith(f"{FIRST}; onnxruntime-cuda did not start: asked for onnxruntime-cuda")
    with pytest.raises(BackendError):
        Engine.load(path, backend="onnxruntime-cuda")


def test_what_was_asked_for_is_the_reason(tmp_path: Path) -> None:
    path = write_blob(tmp_path / "blob.onnx")
    for library in LIBRARIES:
        with open_backend(path, in_precision("fp32"), backend=library) as backend:
            assert (backend.name, backend.reason) == (library, "asked for")


def test_every_backend_has_a_name_of_its_own() -> None:
    assert len(set(BACKENDS)) == len(BACKENDS)
    assert set(LIBRARIES) <= set(BACKENDS)
    assert set(choice.OF_PLANS.values()) <= set(BACKENDS)
