"""In which precision a training computes."""

from __future__ import annotations

from typing import Literal

from mdrun.backends.choice import has_flag

Computed = Literal["32-true", "bf16-mixed"]
Precision = Literal["auto", "32-true", "bf16-mixed"]
BFLOAT16 = ("amx_bf16", "avx512_bf16")  # flags of processors that multiply bfloat16


def computed_precision(precision: Precision, accelerator: str) -> Computed:
    """The precision itself, or for `auto` the fast one here: bfloat16 where the device multiplies that, else single.

    Elsewhere PyTorch emulates it: with AVX2 alone a step takes nine times as long as in single precision. On ARM nobody
    has measured it.
    """
    if precision != "auto":
        return precision
    return "bf16-mixed" if _multiplies_bfloat16(accelerator) else "32-true"


def is_emulated(precision: Precision, accelerator: str) -> bool:
    """It was asked for, the device has no such instructions, and is slow."""
    return precision == "bf16-mixed" and not _multiplies_bfloat16(accelerator)


def _multiplies_bfloat16(accelerator: str) -> bool:
    import torch  # noqa: PLC0415  # keeps --help fast

    if accelerator != "cpu" and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return has_flag(*BFLOAT16)
