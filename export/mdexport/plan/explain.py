"""What an engine needs of a machine, what differs on this one, and the command that builds it again."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mdexport.plan.onnx_needs import install_line, list_onnx_needs
from mdrun.backends.nvidia.library import INSTALL, TITLES
from mdrun.backends.nvidia.machine import Machine, this_machine
from mdrun.backends.nvidia.needs import Need, list_needs
from mdrun.backends.nvidia.plan_file import belongs, check_kind, rebuild_command
from mdrun.errors import EngineError
from mdrun.manifest import Build, Manifest
from mdrun.onnx_file import PLAN_SUFFIXES, check_graph, read_manifest


@dataclass(frozen=True)
class Explanation:
    """The portability report of one engine.

    Attributes:
        path: its file.
        manifest: beside it.
        belongs: the file names the manifest's digest; None where the name cannot be read without loading it.
        needs: what it needs, and what is here.
        rebuild: the command that builds it again, on the machine that is to run it; None of an ONNX file.
        source: the ONNX file for that, and whether it lies beside the engine, unchanged; None of an ONNX file.
        way_out: what to do on a machine that cannot run it.
    """

    path: Path
    manifest: Manifest
    belongs: bool | None
    needs: list[Need]
    rebuild: str | None
    source: str | None
    way_out: str

    @property
    def runs_here(self) -> str:
        """`yes`, `no`, or `unsure`, where only loading it can tell."""
        verdicts = {need.verdict for need in self.needs}
        return next((verdict for verdict in ("no", "unsure") if verdict in verdicts), "yes")

    def to_dict(self) -> dict[str, Any]:
        """The document of `--json`; keys are added, never renamed or removed."""
        build = self.manifest.build
        return {
            "engine": str(self.path),
            "name": self.manifest.network_name(),
            "belongs": self.belongs,
            "precision": self.manifest.origin.precision,
            "build": None if build is None else asdict(build),
            "runs_here": self.runs_here,
            "needs": [asdict(need) for need in self.needs],
            "rebuild": self.rebuild,
            "source": self.source,
        }


def explain(path: Path, machine: Machine | None = None) -> Explanation:
    """Read an engine's manifest and hold it against a machine; the engine itself is not loaded.

    Args:
        path: the engine.
        machine: to hold a plan against; None takes this one, and so does an ONNX file.

    Raises:
        EngineError: no ONNX file and no engine that `mdexport plan` built, or one with the name of another library's.
        ManifestError: its manifest is missing, malformed, or of another engine.
    """
    if path.suffix == ".onnx":
        return _explain_onnx(path)
    if path.suffix not in PLAN_SUFFIXES:
        raise EngineError(f"{path}: wanted an engine, a file that ends in .onnx, {', '.join(PLAN_SUFFIXES)}")
    manifest = read_manifest(path)
    if manifest.build is None or manifest.build.target not in TITLES:
        raise EngineError(f"{path}: its manifest does not say how it was built; build it with `mdexport plan`")
    check_kind(path, manifest)
    build = manifest.build
    machine = machine or this_machine(build.target)
    rebuild = rebuild_command(build, machine.driver)
    return Explanation(
        path=path,
        manifest=manifest,
        belongs=belongs(path, manifest),
        needs=list(list_needs(build, machine)),
        rebuild=rebuild,
        source=_source(path, build),
        way_out=_way_out(build, machine, rebuild),
    )


def _explain_onnx(path: Path) -> Explanation:
    manifest = read_manifest(path)
    check_graph(path, manifest)
    return Explanation(
        path=path,
        manifest=manifest,
        belongs=True,  # else read_manifest had refused it
        needs=list(list_onnx_needs(path, manifest)),
        rebuild=None,
        source=None,
        way_out=install_line(manifest),
    )


def _way_out(build: Build, machine: Machine, rebuild: str) -> str:
    """Building it again helps where there is a GPU that could run it."""
    if machine.driver is None:
        why = f" ({machine.without_driver})" if machine.without_driver else ""
        return (
            f"{TITLES[build.target]} runs on NVIDIA GPUs only, and no driver works here{why}: install it where there "
            f"is such a GPU, else run {_onnx_name(build)}"
        )
    target = "rtx" if "--target rtx" in rebuild else "tensorrt"
    install = f"{INSTALL[target]}, then " if machine.library is None or target != build.target else ""
    return f"for this machine: {install}{rebuild}"


def _onnx_name(build: Build) -> str:
    """Of the file it was built from, as its command has it."""
    return next((word for word in shlex.split(build.command) if word.endswith(".onnx")), "the ONNX file")


def _source(path: Path, build: Build) -> str:
    name = _onnx_name(build)
    onnx = path.with_name(name)
    wanted = f"{name} with SHA-256 {build.onnx_sha256[:16]}…"
    if not onnx.is_file():
        return f"{wanted}; not beside the engine"
    same = hashlib.sha256(onnx.read_bytes()).hexdigest() == build.onnx_sha256
    return f"{wanted}; beside the engine" if same else f"{wanted}; the one beside the engine is another"
