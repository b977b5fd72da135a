"""Engine libraries, and the engines that ship: each is loaded and run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

from mdrun.doctor.base import Check, Status, ok
from mdrun.doctor.probe import Facts, run_probe
from mdrun.text import clean

AREA = "engine libraries"
NAMES = {
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "tensorrt": "TensorRT",
    "tensorrt_rtx": "TensorRT for RTX",
}
EXTRAS = {"onnxruntime": "cpu", "openvino": "openvino", "tensorrt": "tensorrt", "tensorrt_rtx": "rtx"}
FOR = {
    "onnxruntime": "runs ONNX engines on any processor",
    "openvino": "runs ONNX engines, INT8 above all, faster on Intel processors; the only one for bf16",
    "tensorrt": "runs and builds plans for NVIDIA GPUs",
    "tensorrt_rtx": "runs and builds engines for desktop GPUs of NVIDIA",
}
RUN_ONNX = ("onnxruntime", "openvino")
SAME_NAME = ("onnxruntime", "onnxruntime-gpu")  # both own the folder onnxruntime: the later one breaks the earlier


def install_command(name: str) -> str:
    """What installs a library of NAMES."""
    return f'pip install "mdrun[{EXTRAS[name]}]"'


def check_libraries(facts: Mapping[str, Facts]) -> list[Check]:
    """Every check of this area. `facts`: of each library in NAMES, as `run_probe` gives them."""
    both = [name for name in SAME_NAME if is_installed(name)]
    checks = [_library(name, facts[name], both) for name in NAMES]
    engines = [_engine(engine) for name in RUN_ONNX for engine in facts[name].get("engines", [])]
    if not any("version" in facts[name] for name in RUN_ONNX):
        engines.append(
            Check(
                AREA, "engines", Status.BROKEN, "no library runs the engines that ship",
                "no run is possible", 'pip install "mdrun[cpu]"', "MDR-310",
            )
        )  # fmt: skip
    return checks + engines


def _library(name: str, facts: Facts, both: list[str]) -> Check:
    title = NAMES[name]
    install = install_command(name)
    if name == "onnxruntime" and len(both) > 1:
        found = f"{' and '.join(both)} are both installed"
        means = "they share one folder, and whichever came later has overwritten half of the other"
        mend = f"pip uninstall -y {' '.join(both)} && {install}"
        return Check(AREA, title, Status.BROKEN, found, means, mend, "MDR-310", data=dict(facts))
    if "missing" in facts:
        return Check(AREA, title, Status.MISSING, facts["missing"], FOR[name], install)
    if "broken" in facts:
        means, mend = f"it is installed and cannot be used; it {FOR[name]}", f"pip install --force-reinstall {name}"
        return Check(AREA, title, Status.BROKEN, clean(facts["broken"]), means, mend, "", dict(facts))
    data = {key: value for key, value in facts.items() if key != "engines"}
    return ok(AREA, title, f"{facts['version']}{_details(name, facts)}", data=data)


def _details(name: str, facts: Facts) -> str:
    """What else is worth a place in the table."""
    details: dict[str, Callable[[], list[str]]] = {
        "onnxruntime": lambda: [provider.removesuffix("ExecutionProvider") for provider in facts["providers"]],
        "openvino": lambda: [f"{device} ({words})" for device, words in facts["devices"].items()],
        "tensorrt": lambda: [f"{package} {version}" for package, version in facts["bindings"].items()],
    }
    found = details[name]() if name in details else []
    return f"; {', '.join(found)}" if found else ""


def _engine(facts: Mapping[str, Any]) -> Check:
    """One engine that ships, on one backend."""
    library, _, place = str(facts["on"]).partition("-")
    return describe_run(AREA, f"{facts['name']} on {NAMES[library]}{f', {place.upper()}' if place else ''}", facts)


def describe_run(area: str, name: str, facts: Mapping[str, Any]) -> Check:
    """How loading and running an engine ended."""
    if "infer_ms" not in facts:
        why = clean(facts.get("broken", facts.get("missing", "")))
        mend = 'pip install --force-reinstall "mdrun[cpu]"' if area == AREA else ""
        return Check(area, name, Status.BROKEN, why, "", mend, facts.get("code", "MDR-300"), dict(facts))
    speed = f"{facts['infer_ms']:.1f} ms a pair (median of {facts['runs']}), {1000 / facts['infer_ms']:.0f} pairs/s"
    return ok(area, name, f"{speed}; loaded and warm in {facts['ready_ms'] / 1000:.1f} s", data=facts)


def probe_engine(path: str, backend: str) -> Facts:
    """Load and run one engine in a process of its own."""
    return run_probe("engine", path, backend)


def is_installed(package: str) -> bool:
    """The package is there, without importing it."""
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True
