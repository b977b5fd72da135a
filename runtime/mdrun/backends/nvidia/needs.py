"""What an engine needs, one line a thing, held against a machine.

The rules are NVIDIA's (docs/tensorrt.md says where they stand). `unsure` is said where they leave it open.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mdrun.backends.nvidia.library import TITLES
from mdrun.backends.nvidia.machine import Machine
from mdrun.manifest import Build

AMPERE = (8, 0)


@dataclass(frozen=True)
class Need:
    """One thing that an engine needs.

    Attributes:
        what: `GPU`, `library`, `platform`, `driver`, `program` or `L4T`.
        needs: of it.
        here: on the machine.
        verdict: `yes`, `no` or `unsure`.
        remark: why.
    """

    what: str
    needs: str
    here: str
    verdict: str
    remark: str = ""


def list_needs(build: Build, machine: Machine) -> Iterator[Need]:
    """Everything that a machine must have, the likeliest trouble first."""
    yield _rtx_gpu(build, machine) if build.target == "rtx" else _tensorrt_gpu(build, machine)
    yield _library(build, machine)
    yield _platform(build, machine)
    yield _driver(build.driver, machine)
    if "version-compatible" in build.options:
        yield Need(
            "program",
            "one that runs the code in the plan, or TensorRT's lean runtime",
            "mdrun does neither",
            "no",
            "built with --version-compatible; build it without for mdrun",
        )
    if build.l4t is not None or machine.l4t is not None:
        same = build.l4t == machine.l4t
        remark = "" if same else "JetPack sets the TensorRT version, which the line above compares"
        yield Need("L4T", build.l4t or "none", machine.l4t or "none", "yes" if same else "unsure", remark)


def _rtx_gpu(build: Build, machine: Machine) -> Need:
    capabilities = build.compute_capabilities
    needs = f"compute capability {', '.join(capabilities)}"
    if machine.driver is None:
        return Need("GPU", needs, "none", "no", machine.without_driver)
    here = machine.driver.gpus[0]
    shown = f"{here.compute_capability} ({here.name})"
    if here.compute_capability in capabilities:
        return Need("GPU", needs, shown, "yes")
    newer = _numbers(here.compute_capability) > max(map(_numbers, capabilities))
    if newer:
        return Need("GPU", needs, shown, "unsure", "newer than those it was built for")
    return Need("GPU", needs, shown, "no", "not among those it was built for")


def _tensorrt_gpu(build: Build, machine: Machine) -> Need:
    built_for = build.compute_capabilities[0]
    level = build.options.get("hardware-compatible")
    needs = {
        None: f"{build.device}, compute capability {built_for}",
        "same-compute-capability": f"any GPU of compute capability {built_for}",
        "ampere-plus": "any GPU of compute capability 8.0 or above",
    }.get(level, f"compute capability {built_for}")
    if machine.driver is None:
        return Need("GPU", needs, "none", "no", machine.without_driver)
    here = machine.driver.gpus[0]
    shown = f"{here.name}, compute capability {here.compute_capability}"
    if level == "ampere-plus":
        if _numbers(here.compute_capability) < AMPERE:
            return Need("GPU", needs, shown, "no", "older than Ampere")
    elif here.compute_capability != built_for:
        return Need("GPU", needs, shown, "no", "another compute capability")
    if here.name == build.device:
        return Need("GPU", needs, shown, "yes")
    if level is None:
        return Need("GPU", needs, shown, "unsure", "another GPU of the same compute capability")
    if machine.l4t is not None:
        return Need("GPU", needs, shown, "unsure", "another GPU, which is unproven on Jetson")
    return Need("GPU", needs, shown, "yes")


def _library(build: Build, machine: Machine) -> Need:
    title = TITLES[build.target]
    compatible = "version-compatible" in build.options
    needs = f"{title} {build.version}" + (" or newer" if compatible else ", exactly this")
    if machine.library is None:
        return Need("library", needs, "not installed", "no")
    shown = f"{title} {machine.library}"
    if machine.library == build.version:
        return Need("library", needs, shown, "yes")
    if not compatible:
        return Need("library", needs, shown, "no", "another version")
    built, here = _numbers(build.version), _numbers(machine.library)
    if here < built:
        return Need("library", needs, shown, "no", "older")
    if here[0] != built[0]:
        return Need("library", needs, shown, "unsure", "another major version: NVIDIA's pages disagree")
    return Need("library", needs, shown, "yes")


def _platform(build: Build, machine: Machine) -> Need:
    if build.platform == machine.platform:
        return Need("platform", build.platform, machine.platform, "yes")
    if build.target == "rtx":
        return Need("platform", build.platform, machine.platform, "unsure", "proven by NVIDIA for Windows and Linux")
    return Need("platform", build.platform, machine.platform, "no", "plans never change platform")


def _driver(built: str | None, machine: Machine) -> Need:
    """`built`: the driver beside which it was built; None where there was none, as TensorRT for RTX wants none."""
    needs = "a CUDA driver that the library takes" if built is None else f"CUDA driver {built} or newer"
    if machine.driver is None:
        return Need("driver", needs, "none", "no", machine.without_driver)
    here = machine.driver.version
    if built is None:
        return Need("driver", needs, here, "yes", "built without one: loading it tells")
    if _numbers(here) >= _numbers(built):
        return Need("driver", needs, here, "yes")
    return Need("driver", needs, here, "unsure", "older than the one it was built with")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))
