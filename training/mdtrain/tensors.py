"""Files of tensors: read without running code of others, written whole or not at all."""

from __future__ import annotations

import io
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import safetensors.torch
import torch
from torch import Tensor

from mdrun.errors import EngineError
from mdrun.files import PartialFile
from mdtrain.outputs import told

REASON_CHARS = 120  # of torch's words about a damaged file; more is advice about its own functions
AGAIN = "make room, and go on with --resume"
AFRESH = "make room, and start again"
NOT_SAVED = "nothing that torch.save wrote"
CPU_MEMORY = re.compile(r"DefaultCPUAllocator: .* (\d+) bytes")  # torch has a class of errors for CUDA's alone
OVERFLOW = "Storage size calculation overflowed"


def read_tensors(path: Path, what: str, way_out: str) -> Any:
    """What `torch.save` wrote, on the CPU: tensors and plain values.

    Args:
        path: of the file.
        what: it should be, for the error.
        way_out: what to do where it is something else.

    Raises:
        EngineError: damaged, or a pickle that asks for code, which is not run.
    """
    try:
        with warnings.catch_warnings():  # about the pickle that is refused
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise EngineError(
            f"{path}: not a readable {what}: damaged, or it asks for code to be run, which is refused; {way_out}"
        ) from error
    except Exception as error:  # torch raises half a dozen kinds for damaged files
        raise EngineError(f"{path}: not a readable {what} ({_reason(path, error)}); {way_out}") from error


def _reason(path: Path, error: Exception) -> str:
    """Torch's words where it has some; of a file that is none of its own it says only where it stumbled."""
    if not path.stat().st_size:
        return "it is empty"
    words = str(error).strip() if isinstance(error, RuntimeError | OSError) else ""
    return re.split(r"\n|\. ", words)[0][:REASON_CHARS] or NOT_SAVED


def is_state_dict(data: object) -> TypeGuard[dict[str, Tensor]]:
    """Names and tensors, and nothing around them."""
    return isinstance(data, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in data.items())


def refuse_broken(weights: Mapping[str, Tensor], path: Path) -> None:
    """A network with NaN or infinity in it gives nothing else, and whoever trains on would look for it elsewhere.

    Raises:
        EngineError: naming the first tensor that holds some.
    """
    broken = [name for name, value in weights.items() if not value.float().isfinite().all()]
    if broken:
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        raise EngineError(
            f"{path}: NaN or infinity in {broken[0]}{more}, wanted finite weights; "
            "take those of a run that did not diverge, or copy the file again"
        )


def memory_asked(error: RuntimeError) -> str | None:
    """How much memory torch was asked for and had not; None where the error is another."""
    if isinstance(error, torch.OutOfMemoryError):
        return "more memory than the device has"
    if OVERFLOW in str(error):
        return "more memory than can be counted"
    asked = CPU_MEMORY.search(str(error))
    return f"{int(asked[1]) / 2**30:.1f} GiB of memory at once" if asked else None


def room_for(checkpoint: Path) -> str:
    """What to do on a full disk: a run without a checkpoint has nothing to go on from."""
    return AGAIN if checkpoint.exists() else AFRESH


def write_tensors(path: Path, data: object, way_out: str = AGAIN) -> None:
    """Write by `torch.save`; what cannot be completed leaves an older file as it was.

    Args:
        path: file to write.
        data: tensors and plain values.
        way_out: what to do where there is no room.

    Raises:
        OutputError: there is no room, or no permission.
    """
    buffer = io.BytesIO()
    torch.save(data, buffer)
    _write(path, buffer.getbuffer(), way_out)


def write_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """The same as safetensors.

    Raises:
        OutputError: there is no room, or no permission.
    """
    _write(path, safetensors.torch.save(tensors, metadata), AGAIN)


def _write(path: Path, data: bytes | memoryview, way_out: str) -> None:
    file = PartialFile(path)
    try:
        with told(path, way_out):
            path.parent.mkdir(parents=True, exist_ok=True)
            file.part.write_bytes(data)
            file.commit()
    finally:
        file.discard()
