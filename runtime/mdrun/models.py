"""The engines that ship in the package."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mdrun.errors import EngineError, UsageError
from mdrun.manifest import Manifest
from mdrun.onnx_file import PLAN_SUFFIXES, read_manifest

FOLDER = Path(__file__).resolve().parent / "engines"
SUFFIXES = (".onnx", *PLAN_SUFFIXES)
DEFAULT_TASK, DEFAULT_PRECISION = "detect", "fp32"  # of the engine that runs where none is named


@dataclass(frozen=True)
class ShippedModel:
    """One engine of the package.

    Attributes:
        name: what `--engine` takes.
        path: its file.
        manifest: everything else.
    """

    name: str
    path: Path
    manifest: Manifest

    def to_dict(self) -> dict[str, Any]:
        """The entry of `mdrun models --json`; keys are added, never renamed or removed."""
        manifest = self.manifest
        return {
            "name": self.name,
            "path": str(self.path),
            "bytes": self.path.stat().st_size,
            "task": manifest.task,
            "classes": manifest.classes,
            "needs": manifest.needs,
            "inputs": {key: asdict(spec) for key, spec in manifest.inputs.items()},
            "thresholds": asdict(manifest.thresholds),
            "precision": manifest.origin.precision,
            "accuracy": manifest.origin.accuracy,
            "data": manifest.origin.data,
            "parity": None if manifest.parity is None else asdict(manifest.parity),
            "licence": manifest.origin.licence,
            "digest": manifest.digest(),
        }


def shipped(folder: Path | None = None) -> list[ShippedModel]:
    """The engines of the package (or of another folder), by name; none is no error.

    Raises:
        EngineError: one of them is damaged.
    """
    return [ShippedModel(path.stem, path, read_manifest(path)) for path in _files(folder)]


def resolve(engine: str | Path, folder: Path | None = None) -> Path:
    """Path of an engine given by path or by the name of a shipped one.

    Raises:
        EngineError: neither a file nor a shipped name.
    """
    path = Path(engine)
    if path.is_file() or path.suffix in SUFFIXES or len(path.parts) > 1:
        return path  # reading it says what is wrong with it
    for shipped_path in _files(folder):
        if shipped_path.stem == str(engine):
            return shipped_path
    raise EngineError(f"engine {str(engine)!r} is neither a file nor one that ships ({_names(folder)})")


def default(folder: Path | None = None) -> Path:
    """Path of the shipped detector in single precision, where there is exactly one; all others must be named.

    One that sees through the thermal camera goes before one that does without.

    Raises:
        UsageError: no detector ships, or several do.
        EngineError: an engine that ships is damaged.
    """
    return default_ladder(folder)[0]


def default_ladder(folder: Path | None = None) -> list[Path]:
    """Paths of `default` and, behind it, of what stands in for it where the thermal camera is lost.

    Raises:
        UsageError: as `default`.
        EngineError: an engine that ships is damaged.
    """
    detectors = [model for model in shipped(folder) if model.manifest.task == DEFAULT_TASK]
    # an engine of another precision is the same network, for those who ask for it
    precise = [model for model in detectors if model.manifest.origin.precision == DEFAULT_PRECISION]
    through_thermal = [model for model in precise if "thermal" in model.manifest.needs]
    first = through_thermal or precise
    if len(first) != 1:
        raise UsageError(f"--engine is missing and there is no single default ({_names(folder)}); name one")
    without = [model for model in detectors if "thermal" not in model.manifest.needs] if through_thermal else []
    without.sort(key=lambda model: model not in precise)
    return [model.path for model in first + without[:1]]


def _files(folder: Path | None) -> list[Path]:
    return sorted(path for path in (folder or FOLDER).glob("*.onnx") if path.is_file())


def _names(folder: Path | None) -> str:
    names = [path.stem for path in _files(folder)]
    return f"shipped: {', '.join(names)}" if names else "none ships with this mdrun"
