"""What an ONNX file needs: a library that runs its precision, and for INT8 the right processor."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from mdrun.backends.choice import CPU_FLAGS, EXACT_INT8, LIBRARIES, has_flag
from mdrun.backends.nvidia.needs import Need
from mdrun.doctor.libraries import NAMES, install_command
from mdrun.doctor.processor import check_processor
from mdrun.manifest import Manifest
from mdrun.onnx_file import is_for_processors

SEVEN_BITS = "weights of 7 bits"  # in a manifest's calibration, by `mdexport int8 --reduce-range`
JUDGED_EXACT = "its verdict is of a processor where they are exact, `mdexport check` here tells what they cost"


def list_onnx_needs(path: Path, manifest: Manifest) -> Iterator[Need]:
    """Everything that this machine must have, and how far it has it.

    Raises:
        EngineError: the file cannot be read.
    """
    libraries = _libraries(manifest)
    installed = [NAMES[name] for name in libraries if find_spec(name) is not None]
    needs = " or ".join(NAMES[name] for name in libraries)
    yield Need("library", needs, ", ".join(installed) or "not installed", "yes" if installed else "no")
    if is_for_processors(path):
        here = check_processor("", os.cpu_count() or 1, CPU_FLAGS, platform.machine())
        remark = f"{here.means}; {JUDGED_EXACT}" if _judged_exact(manifest) else here.means
        yield Need("processor", "any; INT8 is for those with VNNI or dot product", here.found, "yes", remark)


def _judged_exact(manifest: Manifest) -> bool:
    """Its verdict is of a processor whose sums of bytes are exact; this one is none, and 8-bit weights want one."""
    judged = manifest.parity.computed_by if manifest.parity is not None else None
    everywhere = SEVEN_BITS in (manifest.origin.calibration or "")
    return judged is not None and judged.endswith(EXACT_INT8) and not has_flag(*EXACT_INT8) and not everywhere


def install_line(manifest: Manifest) -> str:
    """How to get a library that runs an ONNX file of this precision."""
    return install_command(_libraries(manifest)[0])


def _libraries(manifest: Manifest) -> tuple[str, ...]:
    """Modules that run this precision on a processor."""
    return ("openvino",) if manifest.origin.precision == "bf16" else LIBRARIES
