"""What only TensorRT for RTX has: a choice of GPU generations that one engine is for."""

from __future__ import annotations

from typing import Any

from mdrun.backends.nvidia.library import Library
from mdrun.backends.nvidia.plan_file import TURING
from mdrun.errors import UsageError


def choose_capabilities(library: Library, asked: tuple[str, ...]) -> list[str]:
    """Compute capabilities to build for: those asked for, or all that the library knows from Ampere on.

    Raises:
        UsageError: one that it does not know.
    """
    known = _known(library)
    if odd := [capability for capability in asked if capability not in known]:
        raise UsageError(f"--compute-capability {odd[0]}: {library.title} knows {', '.join(known)}; choose of these")
    return sorted(set(asked), key=float) or [capability for capability in known if capability != TURING]


def set_capabilities(library: Library, config: Any, capabilities: list[str]) -> None:
    """Tell the builder.

    Raises:
        LibraryError: it refused one.
    """
    kinds = _known(library)
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        library.call(f"take compute capability {capability}", config.set_compute_capability, kinds[capability], index)


def _known(library: Library) -> dict[str, Any]:
    """`8.6` → `ComputeCapability.SM86`, from the oldest on."""
    api: Any = library.api
    members = {name[2:]: kind for name, kind in api.ComputeCapability.__members__.items() if name.startswith("SM")}
    return {f"{digits[:-1]}.{digits[-1]}": members[digits] for digits in sorted(members, key=int)}
