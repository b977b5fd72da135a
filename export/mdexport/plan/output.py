"""Names and files of an engine: the engine itself and its manifest beside it."""

from __future__ import annotations

import re
from pathlib import Path

from mdrun.backends.nvidia.library import Library
from mdrun.backends.nvidia.plan_file import SUFFIXES
from mdrun.errors import OutputError, UsageError
from mdrun.files import PartialFile
from mdrun.manifest import Manifest, ManifestError, parse_manifest, sidecar_path
from mdrun.onnx_file import PLAN_SUFFIXES

MOST_CHARACTERS = 60  # of a name: some 255 bytes are what a file may have, and a precision and versions come behind it


def auto_name(library: Library, manifest: Manifest, capability: str | None) -> str:
    """File name that says what the engine is: `student_fp16_sm87_trt10.3.0.plan`, `student_fp16_rtx1.7.1.116.rtx`."""
    name = file_name(manifest.name)
    if library.target == "rtx":
        return f"{name}_{manifest.origin.precision}_rtx{library.version}.rtx"
    architecture = (capability or "").replace(".", "")
    return f"{name}_{manifest.origin.precision}_sm{architecture}_trt{library.version}.plan"


def file_name(name: str) -> str:
    """An engine's name where a file is called after it."""
    return re.sub(r"[^\w.+-]", "-", name)[:MOST_CHARACTERS]


def check_suffix(output: Path, target: str) -> None:
    """Refuse a name that another kind of file has.

    Raises:
        UsageError: naming the suffixes of the target.
    """
    if output.suffix not in SUFFIXES[target]:
        wanted = " or ".join(SUFFIXES[target])
        raise UsageError(
            f"--output {output}: wanted a name that ends in {wanted} for --target {target}; or --auto-name"
        )


def check_sidecar(output: Path) -> None:
    """Refuse to replace a file beside the engine that is not this engine's manifest.

    Manifests are named after the engine without its suffix, so `student.plan` and `student.rtx` would share one.

    Raises:
        OutputError: another engine of that name, or another file, is there.
    """
    sidecar = sidecar_path(output)
    others = [output.with_suffix(suffix) for suffix in PLAN_SUFFIXES if suffix != output.suffix]
    if taken := [other for other in others if other.exists()]:
        raise OutputError(
            f"{sidecar}: belongs to {taken[0].name}, and would be replaced by the manifest of {output.name}; "
            "choose another --output, or --auto-name"
        )
    if not sidecar.exists():
        return
    try:
        parse_manifest(sidecar.read_text(encoding="utf-8"), str(sidecar))
    except (ManifestError, OSError, UnicodeDecodeError) as error:
        raise OutputError(
            f"{sidecar}: is no manifest, and would be replaced by that of {output.name}; move it, or choose another "
            "--output"
        ) from error


def write_engine(output: Path, engine: bytes, manifest: Manifest) -> None:
    """Write engine and manifest under temporary names, then name both.

    Raises:
        OutputError: the place is full or not writable; nothing is left there.
    """
    files = {PartialFile(output): engine, PartialFile(sidecar_path(output)): manifest.to_json().encode()}
    try:
        for file, data in files.items():
            file.part.write_bytes(data)
        for file in files:
            file.commit()
    except OSError as error:
        raise OutputError(f"{output}: cannot be written ({error.strerror}); choose another --output") from error
    finally:
        for file in files:
            file.discard()


def write_whole(path: Path, data: bytes) -> None:
    """Write one file under a temporary name, then name it.

    Raises:
        OSError: the place is full or not writable; nothing is left there.
    """
    file = PartialFile(path)
    try:
        file.part.write_bytes(data)
        file.commit()
    finally:
        file.discard()
