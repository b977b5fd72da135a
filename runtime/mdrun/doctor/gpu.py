"""NVIDIA's driver and GPUs, and what kind of Jetson this is."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from mdrun.doctor.base import Check, Status, ok
from mdrun.doctor.probe import Facts
from mdrun.driver import l4t_release
from mdrun.text import clean

AREA = "GPU"
VENDOR, DISPLAY = "0x10de", "0x03"  # PCI: NVIDIA; base class of display controllers
IN_CONTAINER = (".dockerenv", "run/.containerenv")
CPU_ONLY = "engines run on the CPU, and no TensorRT plan runs here"


def check_gpu(facts: Facts, root: Path = Path("/")) -> list[Check]:
    """Every check of this area. `facts`: of the probe `cuda`; `root`: of the file system, for tests."""
    checks = [_driver(facts, root)]
    if release := l4t_release(root / "etc/nv_tegra_release"):
        checks.append(ok(AREA, "Jetson", f"L4T {release}{_model(root)}", data={"l4t": release}))
        checks.append(_power_mode())
    return checks


def _driver(facts: Facts, root: Path) -> Check:
    if gpus := facts.get("gpus"):
        names = ", ".join(f"{clean(gpu['name'])} (compute capability {gpu['compute_capability']})" for gpu in gpus)
        version = kernel_driver(root)
        found = f"{names}; {f'driver {version}, ' if version else ''}CUDA up to {facts['cuda']}"
        return ok(AREA, "CUDA", found, data=facts | {"driver": version})
    seen, contained = _has_gpu(root), any((root / name).exists() for name in IN_CONTAINER)
    if "missing" in facts and not seen:
        return Check(AREA, "CUDA", Status.MISSING, clean(facts["missing"]), CPU_ONLY)
    mend = "docker run --gpus all …" if contained else "nvidia-smi"
    if "missing" in facts:
        found = "an NVIDIA GPU is in this machine, and no driver for it"
        mend = mend if contained else "sudo ubuntu-drivers install"
        return Check(AREA, "CUDA", Status.WARNING, found, CPU_ONLY, mend, data=dict(facts))
    return Check(AREA, "CUDA", Status.BROKEN, clean(facts.get("broken", "")), CPU_ONLY, mend, data=dict(facts))


def kernel_driver(root: Path) -> str:
    """Version of NVIDIA's kernel driver, for example `575.57.08`; empty where there is none."""
    try:
        text = (root / "proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(r"Kernel Module\s+(?:for \S+\s+)?(\d+(?:\.\d+)+)", text)
    return found[1] if found else ""


def _has_gpu(root: Path) -> bool:
    """A display controller of NVIDIA's is on the PCI bus."""
    for device in (root / "sys/bus/pci/devices").glob("*"):
        try:
            words = [(device / name).read_text().strip() for name in ("vendor", "class")]
        except OSError:
            continue
        if words[0] == VENDOR and words[1].startswith(DISPLAY):
            return True
    return False


def _model(root: Path) -> str:
    try:
        text = (root / "proc/device-tree/model").read_bytes().rstrip(b"\0").decode(errors="replace")
    except OSError:
        return ""
    return f", {clean(text)}"


def _power_mode() -> Check:
    """`NV Power Mode: 15W`; lower modes switch cores off and slow clocks down."""
    program = shutil.which("nvpmodel")
    if program is None:
        return Check(AREA, "power mode", Status.MISSING, "nvpmodel is not here", "usual in a container")
    try:
        done = subprocess.run([program, "-q"], capture_output=True, text=True, timeout=3, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(AREA, "power mode", Status.WARNING, clean(error))
    found = re.search(r"NV Power Mode:\s*(\S+)", done.stdout)
    if found is None:
        return Check(AREA, "power mode", Status.WARNING, clean(done.stderr) or "nvpmodel does not tell it")
    return ok(AREA, "power mode", found[1], "`sudo nvpmodel -q --verbose` lists the others, `-m` sets one")
