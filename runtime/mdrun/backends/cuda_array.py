"""Images that lie in the memory of a CUDA device already: arrays of CuPy, torch, Numba or pycuda, taken without a copy.

They are read by the CUDA array interface, version 2 or 3: `__cuda_array_interface__`, a dictionary.
https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import DataError

ALIGNMENT = 256  # bytes, of every address that TensorRT is given (`setTensorAddress` of NvInferRuntime.h)


class OnDevice(Protocol):
    """What has a CUDA array interface."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Address, shape and type."""


Image = NDArray[Any] | OnDevice


@dataclass(frozen=True)
class CudaArray:
    """Memory of a CUDA device that belongs to another library.

    Attributes:
        pointer: its first byte, an address of the device.
        shape: with a batch in front, like an engine's input.
        dtype: of an element.
        stream: on which it is being written, as the interface numbers it; None where it is complete.
        owner: of the memory, kept alive.
    """

    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stream: int | None
    owner: object

    @classmethod
    def take(cls, name: str, array: OnDevice, wanted: tuple[int, ...], dtype: np.dtype[Any]) -> CudaArray:
        """An image on a device as one input of an engine.

        Args:
            name: of the input, for errors.
            array: with or without a batch of one.
            wanted: shape of the input, with its batch of one.
            dtype: of the input.

        Raises:
            DataError: another shape or type, gaps between its elements, a mask, or an address that no engine takes.
        """
        interface = array.__cuda_array_interface__
        shape, found = tuple(interface["shape"]), np.dtype(interface["typestr"])
        if shape not in (wanted, wanted[1:]) or found != dtype:
            raise DataError(
                f"{name} is {found} {shape} on a GPU, the engine takes {dtype} {wanted[1:]}; images are resized on "
                "the host: give a NumPy array, or resize it on the GPU first"
            )
        if interface.get("mask") is not None or not _is_dense(interface.get("strides"), shape, found):
            raise DataError(f"{name}, on a GPU, has a mask or gaps between its pixels; give a contiguous copy of it")
        pointer = int(interface["data"][0])
        if pointer == 0 or pointer % ALIGNMENT:
            raise DataError(
                f"{name}, on a GPU, starts at address {pointer:#x}, wanted a multiple of {ALIGNMENT}; give a copy of it"
            )
        return cls(pointer, wanted, found, interface.get("stream"), array)


def is_on_device(image: object) -> TypeGuard[OnDevice]:
    """It has a CUDA array interface; torch tensors have it only where they are on a GPU."""
    return hasattr(image, "__cuda_array_interface__")


def _is_dense(strides: tuple[int, ...] | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    """Elements lie one behind the other, the last dimension fastest; None says so, too."""
    if strides is None:
        return True
    wanted = dtype.itemsize
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size > 1 and stride != wanted:
            return False
        wanted *= size
    return True
