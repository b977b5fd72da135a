"""Engine files of TensorRT and of TensorRT for RTX, as far as they can be read without the library."""

from __future__ import annotations

import mmap
import re
import shlex
from pathlib import Path

from mdrun.backends.nvidia.library import TITLES
from mdrun.driver import Driver
from mdrun.errors import EngineError
from mdrun.manifest import DIGEST_CHARS, Build, Manifest

SUFFIXES = {"tensorrt": (".plan", ".engine"), "rtx": (".rtx",)}  # of engine files, by target
MAKER = "mdexport plan"
RTX_KNOWS = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")  # TensorRT for RTX 1.7: no Jetson, of data centres Ampere
TURING = "7.5"  # left out unless asked for: NVIDIA advises an engine of its own, and seen, it makes FP16 19 % larger


def check_kind(path: Path, manifest: Manifest) -> None:
    """Refuse an engine with the name of another library's, which would be asked to run it.

    Raises:
        EngineError: naming the suffix that it has to have.
    """
    target = None if manifest.build is None else manifest.build.target
    if target in SUFFIXES and path.suffix not in SUFFIXES[target]:
        wanted = " or ".join(SUFFIXES[target])
        raise EngineError(
            f"{path}: an engine of {TITLES[target]} by its manifest, and not by its name, wanted one that ends in "
            f"{wanted}; rename it"
        )


def belongs(path: Path, manifest: Manifest) -> bool | None:
    """Look for the network's name in an engine's bytes, where TensorRT for RTX 1.7 writes it in clear.

    Returns:
        True if it is the manifest's; None where there is no name to be read.

    Raises:
        EngineError: the file is empty, of another size than it was built with, or cannot be read.
        ManifestError: the engine has the name of another manifest.
    """
    pattern = re.escape(f"{manifest.name}@".encode()) + rb"[0-9a-f]{%d}" % DIGEST_CHARS
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            names, size = {match.decode() for match in re.findall(pattern, data)}, len(data)
    except OSError as error:
        raise EngineError(f"{path}: {error.strerror}; `mdrun models` lists the engines that ship") from error
    except ValueError as error:
        raise EngineError(f"{path}: is empty; copy or build it again") from error
    if names and manifest.network_name() not in names:
        manifest.check_network_name(names.pop(), str(path), MAKER)
    _check_size(path, size, manifest.build)
    return True if names else None


def _check_size(path: Path, size: int, build: Build | None) -> None:
    """Refuse a file that was cut, or that something was added to; a manifest without the size is not checked."""
    if build is not None and build.bytes not in (None, size):
        raise EngineError(
            f"{path}: has {size} bytes, and was built with {build.bytes}: it is not whole; copy it again, or build it "
            f"again with `{MAKER}`"
        )


def rebuild_command(build: Build, driver: Driver | None) -> str:
    """The command that builds an engine for the GPU here: that of then, with what has to differ.

    A GPU that TensorRT for RTX leaves out unless asked is asked for; one that it does not know gets a plan of TensorRT.
    """
    if build.target != "rtx":
        left_out = {"--version-compatible", "--allow-host-code"}  # mdrun runs no such plan
        return shlex.join(word for word in shlex.split(build.command) if word not in left_out)
    if driver is None:
        return build.command
    here = driver.gpus[0].compute_capability
    if here in build.compute_capabilities:
        return build.command
    if here not in RTX_KNOWS and float(here) < float(RTX_KNOWS[-1]):
        return _with_tensorrt(build.command)
    if here != TURING and "compute-capability" not in build.options:
        return build.command  # all that the library knows, and a newer release knows newer ones
    return f"{build.command} {shlex.join(['--compute-capability', here])}"


def _with_tensorrt(command: str) -> str:
    """The command for TensorRT, whose plans are for the GPU that builds them."""
    words = shlex.split(command)
    for option in ("--target", "--compute-capability"):
        while option in words:
            del words[words.index(option) : words.index(option) + 2]
    suffix = SUFFIXES["tensorrt"][0]
    return shlex.join(word.removesuffix(".rtx") + suffix if word.endswith(".rtx") else word for word in words)
