"""Files of tensors: read without running code of others, written whole or not at all."""

from __future__ import annotations

import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from mdrun.errors import EngineError, OutputError
from mdrun.files import PartialFile

REASON_CHARS = 120  # of torch's words about a damaged file; more is advice about its own functions


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
        reason = str(error).strip().splitlines()[0][:REASON_CHARS]
        raise EngineError(f"{path}: not a readable {what} ({reason}); {way_out}") from error


def write_tensors(path: Path, data: object) -> None:
    """Write by `torch.save`; what cannot be completed leaves an older file as it was.

    Raises:
        OutputError: there is no room, or no permission.
    """
    buffer = io.BytesIO()
    torch.save(data, buffer)
    _write(path, buffer.getbuffer())


def write_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """The same as safetensors.

    Raises:
        OutputError: there is no room, or no permission.
    """
    _write(path, safetensors.torch.save(tensors, metadata))


def _write(path: Path, data: bytes | memoryview) -> None:
    file = PartialFile(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file.part.write_bytes(data)
        file.commit()
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}); make room, and go on with --resume"
        ) from error
    finally:
        file.discard()
