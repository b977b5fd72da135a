"""What an engine needs of a machine, what differs on this one, and the command that builds it again."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mdrun.backends.nvidia.library import TITLES
from mdrun.backends.nvidia.machine import Machine, this_machine
from mdrun.backends.nvidia.needs import Need, list_needs
from mdrun.backends.nvidia.plan_file import belongs, check_kind, rebuild_command
from mdrun.errors import EngineError
from mdrun.manifest import Build, Manifest
from mdrun.onnx_file import PLAN_SUFFIXES, read_manifest


@dataclass(frozen=True)
class Explanation:
    """The portability report of one engine.

    Attributes:
        path: its file.
        manifest: beside it.
        belongs: the file names the manifest's digest; None where the name cannot be read without loading it.
        needs: what it needs, and what is here.
        rebuild: the command that builds it again, on the machine that is to run it.
        source: the ONNX file for that, and whether it lies beside the engine, unchanged.
    """

    path: Path
    manifest: Manifest
    belongs: bool | None
    needs: list[Need]
    rebuild: str
    source: str

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
        machine: to hold it against; None takes this one.

    Raises:
        EngineError: no engine that `mdexport plan` built, or one with the name of another library's.
        ManifestError: its manifest is missing, malformed, or of another engine.
    """
    if path.suffix == ".onnx":
        raise EngineError(
            f"{path}: an ONNX file, which is bound to no GPU and no version; `mdrun info` shows it, `mdexport plan` "
            "builds an engine of it"
        )
    if path.suffix not in PLAN_SUFFIXES:
        raise EngineError(f"{path}: wanted an engine, a file that ends in {', '.join(PLAN_SUFFIXES)}")
    manifest = read_manifest(path)
    if manifest.build is None or manifest.build.target not in TITLES:
        raise EngineError(f"{path}: its manifest does not say how it was built; build it with `mdexport plan`")
    check_kind(path, manifest)
    build = manifest.build
    machine = machine or this_machine(build.target)
    return Explanation(
        path=path,
        manifest=manifest,
        belongs=belongs(path, manifest),
        needs=list(list_needs(build, machine)),
        rebuild=rebuild_command(build, machine.driver),
        source=_source(path, build),
    )


def _source(path: Path, build: Build) -> str:
    words = shlex.split(build.command)
    name = next((word for word in words if word.endswith(".onnx")), "the ONNX file")
    onnx = path.with_name(name)
    wanted = f"{name} with SHA-256 {build.onnx_sha256[:16]}…"
    if not onnx.is_file():
        return f"{wanted}; not beside the engine"
    same = hashlib.sha256(onnx.read_bytes()).hexdigest() == build.onnx_sha256
    return f"{wanted}; beside the engine" if same else f"{wanted}; the one beside the engine is another"
