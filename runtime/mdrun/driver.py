"""The CUDA driver and the GPUs of this machine, asked without any package of NVIDIA's.

TensorRT gives a runtime object even where there is no driver, and the next call on it, even freeing it, kills the
process (seen with 10.16.1 and 11.4). So the driver is asked first.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from pathlib import Path

from mdrun.errors import EngineError

LIBRARY = "libcuda.so.1"
L4T_RELEASE = Path("/etc/nv_tegra_release")  # `# R36 (release), REVISION: 4.3, GCID: …` on Jetson Linux

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR of cuda.h
_NAME_BYTES = 256


class DriverError(EngineError):
    """No CUDA driver that works, or no GPU."""


class DriverMissingError(DriverError):
    """No CUDA driver at all."""


@dataclass(frozen=True)
class Gpu:
    """One GPU: its name, and its compute capability, for example `8.7`."""

    name: str
    compute_capability: str


@dataclass(frozen=True)
class Driver:
    """A CUDA driver that works.

    Attributes:
        version: newest CUDA that it supports, for example `12.6`.
        gpus: in the driver's order; the first one builds and runs.
    """

    version: str
    gpus: tuple[Gpu, ...]


def find_driver(library: str = LIBRARY) -> Driver:
    """Load the driver, start it, and list its GPUs.

    Raises:
        DriverMissingError: there is none.
        DriverError: it does not start, or it sees no GPU.
    """
    try:
        cuda = ctypes.CDLL(library)
    except OSError as error:
        raise DriverMissingError(f"no CUDA driver here ({error})") from error
    _call(cuda, "cuInit", 0)
    version, count = ctypes.c_int(), ctypes.c_int()
    _call(cuda, "cuDriverGetVersion", ctypes.byref(version))
    _call(cuda, "cuDeviceGetCount", ctypes.byref(count))
    if count.value < 1:
        raise DriverError("the CUDA driver sees no GPU")
    gpus = tuple(_gpu(cuda, index) for index in range(count.value))
    return Driver(f"{version.value // 1000}.{version.value % 1000 // 10}", gpus)


def l4t_release(file: Path = L4T_RELEASE) -> str | None:
    """Release of Jetson Linux, for example `36.4.3`; None on other machines."""
    try:
        found = re.search(r"R(\d+).*REVISION:\s*([\d.]+)", file.read_text(encoding="utf-8"))
    except OSError:
        return None
    return f"{found[1]}.{found[2]}" if found else None


def _gpu(cuda: ctypes.CDLL, index: int) -> Gpu:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    _call(cuda, "cuDeviceGet", ctypes.byref(device), index)
    _call(cuda, "cuDeviceGetName", name, _NAME_BYTES, device)
    _call(cuda, "cuDeviceGetAttribute", ctypes.byref(major), _MAJOR, device)
    _call(cuda, "cuDeviceGetAttribute", ctypes.byref(minor), _MINOR, device)
    return Gpu(name.value.decode(errors="replace"), f"{major.value}.{minor.value}")


def _call(cuda: ctypes.CDLL, function: str, *arguments: object) -> None:
    if code := getattr(cuda, function)(*arguments):
        text = ctypes.c_char_p()
        cuda.cuGetErrorName(code, ctypes.byref(text))
        name = text.value.decode() if text.value else f"error {code}"
        raise DriverError(f"the CUDA driver does not work ({function}: {name})")
