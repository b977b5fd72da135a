"""Plans of the tests on a GPU of the tests (`fake_gpu`), and what goes into them and comes out."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from mdrun.backends import Backend, Feeds, open_backend, tensorrt
from mdrun.backends.cuda import RUNTIMES
from mdrun.backends.nvidia.library import load_library
from mdrun.driver import Driver
from mdrun.onnx_file import read_manifest
from tests.runtime.engines import THERMAL_WH, VISIBLE_WH
from tests.runtime.fake_gpu import ORIN, Script, make_tensorrt

STREAM = 77  # of another library


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


def put_gpu(
    patch: pytest.MonkeyPatch, script: Script | None = None, module: str = "tensorrt", driver: Driver = ORIN
) -> Script:
    """Put a GPU into this machine; `load_library` wants a `cache_clear` when it is gone."""
    script = script or Script()
    patch.setitem(sys.modules, module, make_tensorrt(script, module))
    patch.setitem(sys.modules, RUNTIMES[0], script.cuda)
    patch.setattr(tensorrt, "find_driver", lambda: driver)
    load_library.cache_clear()
    return script


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


def upload(script: Script, array: Any, **options: Any) -> OnGpu:
    """A copy on the device, written when its stream is waited for."""
    _, pointer = script.cuda.cudaMalloc(array.nbytes)
    script.cuda.put(STREAM, lambda: ctypes.memmove(pointer, array.ctypes.data, array.nbytes))
    return OnGpu(pointer, array.shape, **({"stream": STREAM} | options))


def write_dynamic(path: Path, source: Path) -> Path:
    """The same engine for any number of pairs: the first dimensions have a name."""
    model = onnx.load(source)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, path)
    return path
