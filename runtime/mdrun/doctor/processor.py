"""The processor, and what its instructions mean for INT8 engines."""

from __future__ import annotations

import re
from pathlib import Path

from mdrun.doctor.base import Check, Status, ok

# Flags of /proc/cpuinfo (Linux, arch/x86/include/asm/cpufeatures.h; arch/arm64/kernel/cpuinfo.c), the best first.
X86 = {
    "amx_int8": "AMX: INT8 engines run on matrix units",
    "avx512_vnni": "AVX-512 VNNI: INT8 engines are exact, and faster than FP32",
    "avx_vnni": "AVX-VNNI: INT8 engines are exact, and faster than FP32",
}
ARM = {
    "i8mm": "I8MM: INT8 engines run on matrix instructions",
    "asimddp": "dot product: INT8 engines are faster than FP32",
}
ARM_MACHINES = ("aarch64", "arm64", "armv7l", "armv8l")
# What ONNX Runtime and OpenVINO do without VNNI: docs/export.md, INT8
SATURATES = (
    "INT8 engines are faster than FP32, but sums of their products may saturate in 16 bits, at a cost of accuracy; "
    "one that `mdexport int8 --reduce-range` made is exact here too"
)


def check_processor(area: str, cores: int, file: Path, machine: str) -> Check:
    """Model, cores, and the instructions that INT8 engines live on.

    Args:
        area: of the check.
        cores: that this process may use.
        file: `/proc/cpuinfo`.
        machine: as `platform.machine` gives it.
    """
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return Check(area, "processor", Status.MISSING, f"{machine}, {cores} cores; flags are not told by this system")
    flags = set(_value(text, "flags|Features").split())
    arm = machine in ARM_MACHINES
    known = [flag for flag in (*X86, *ARM, "avx2", "avx512f", "asimd") if flag in flags]
    found = f"{_value(text, 'model name|Model|Hardware') or machine}, {cores} cores, {' '.join(known) or 'no vectors'}"
    data = {"model": _value(text, "model name|Model|Hardware"), "cores": cores, "instructions": known}
    means = next((words for flag, words in (ARM if arm else X86).items() if flag in flags), "")
    if means:
        return ok(area, "processor", found, means, data)
    if arm:
        means = "no dot product instructions: INT8 engines gain little here"
        return Check(area, "processor", Status.WARNING, found, means, data=data)
    if "avx2" not in flags:
        means = "no AVX2: engines run several times slower than on processors since 2013"
        return Check(area, "processor", Status.WARNING, found, means, data=data)
    return Check(
        area, "processor", Status.WARNING, found, f"no VNNI: {SATURATES}", "mdrun --engine md-r18-slim …", data=data
    )


def _value(text: str, names: str) -> str:
    found = re.search(rf"^(?:{names})\s*:\s*(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""
