"""Which engine library runs an engine, and why."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from mdrun.driver import DriverError, find_driver
from mdrun.errors import UsageError
from mdrun.manifest import Manifest

AUTO = "auto"
LIBRARIES = ("onnxruntime", "openvino")  # of .onnx files on the CPU; `auto` takes the first that is installed
ON_GPU = ("onnxruntime-cuda", "onnxruntime-tensorrt")
OF_PLANS = {".plan": "tensorrt", ".engine": "tensorrt", ".rtx": "tensorrt-rtx"}
BACKENDS = (*LIBRARIES, *ON_GPU, "tensorrt", "tensorrt-rtx")

CPU_FLAGS = Path("/proc/cpuinfo")
# What sums of an engine depend on, the best first; with one of EXACT_INT8 those of 8-bit products are exact.
EXACT_INT8 = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp")
INSTRUCTIONS = (*EXACT_INT8, "avx512f", "avx2", "asimd")
FAST_INT8 = "amx_int8"  # with it OpenVINO takes 9 ms where ONNX Runtime takes 22, with AVX2 46 and 52 (docs/engines.md)


@dataclass(frozen=True)
class Choice:
    """A backend, and why it is this one."""

    backend: str
    reason: str


def check_backend(backend: str) -> None:
    """Refuse a name that no backend has.

    Raises:
        UsageError: listing those there are.
    """
    if backend not in {AUTO, *BACKENDS}:
        raise UsageError(f"backend is {backend!r}, wanted one of {', '.join((AUTO, *BACKENDS))}")


def choose(path: Path, manifest: Manifest, backend: str = AUTO) -> list[Choice]:
    """Backends for an engine, the best one first: one that was asked for, or all that there are here.

    Where none is installed it is the one whose absence is worth an error.

    Raises:
        UsageError: the backend does not run such a file.
    """
    of_plan = OF_PLANS.get(path.suffix)
    if backend == AUTO:
        if of_plan is not None:
            return [Choice(of_plan, f"what runs {path.suffix} files")]
        return list(_for_onnx(manifest)) or [Choice(LIBRARIES[0], "what runs .onnx files on any processor")]
    if backend != of_plan and (of_plan is not None or backend in OF_PLANS.values()):
        fits = of_plan or ", ".join((*LIBRARIES, *ON_GPU))
        raise UsageError(f"{path}: backend is {backend!r}, wanted {fits} for such a file; or leave it out")
    return [Choice(backend, "asked for")]


def _for_onnx(manifest: Manifest) -> Iterator[Choice]:
    precision = manifest.origin.precision
    if precision == "bf16":
        yield Choice("openvino", "bf16, which ONNX Runtime does not run on a CPU")
        return
    if (gpu := _gpu()) is not None:
        yield Choice("onnxruntime-cuda", f"onnxruntime-gpu is installed, and there is a {gpu}")
    fast = precision == "int8" and find_spec("openvino") is not None and _has_fast_int8()
    if fast:
        yield Choice("openvino", "int8 on a processor with AMX, where it is the fastest")
    for library in LIBRARIES:
        if find_spec(library) is not None and not (fast and library == "openvino"):
            yield Choice(library, "the first engine library that is installed")


def _gpu() -> str | None:
    """Name of the GPU that an installed ONNX Runtime is built for; None where there is neither."""
    try:
        metadata.distribution("onnxruntime-gpu")
        return find_driver().gpus[0].name
    except (metadata.PackageNotFoundError, DriverError):
        return None


def _has_fast_int8() -> bool:
    """This processor multiplies matrices of 8-bit integers in one instruction (Intel AMX)."""
    return platform.machine() == "x86_64" and has_flag(FAST_INT8)


def best_instructions() -> str:
    """The first of INSTRUCTIONS that this processor has; the kind of machine where none is known."""
    return next((flag for flag in INSTRUCTIONS if has_flag(flag)), platform.machine())


def has_flag(*flags: str) -> bool:
    """This processor has one of these; False where the system does not tell."""
    try:
        return not set(flags).isdisjoint(CPU_FLAGS.read_text(encoding="utf-8").split())
    except OSError:  # not Linux
        return False
