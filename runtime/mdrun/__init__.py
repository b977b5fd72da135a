"""mdrun: day-and-night scene analysis from a visible camera and a cheap thermal one.

    from mdrun import Engine

    with Engine.load("student.onnx") as engine:
        detections = engine.infer(visible_rgb, thermal_grey)

    for result in mdrun.open("gate.yaml"):
        print(result.detections, result.thermal_provenance)

These names load on first use, so that `import mdrun` costs no image or engine library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mdrun.engine import Engine
    from mdrun.interop import to_supervision
    from mdrun.manifest import Manifest
    from mdrun.rig.api import open_rig as open  # noqa: A004  # reads as mdrun.open

__version__ = "0.1.0"
__all__ = ["Engine", "Manifest", "__version__", "open", "to_supervision"]

_HOMES = {
    "Engine": ("mdrun.engine", "Engine"),
    "Manifest": ("mdrun.manifest", "Manifest"),
    "open": ("mdrun.rig.api", "open_rig"),
    "to_supervision": ("mdrun.interop", "to_supervision"),
}


def __getattr__(name: str) -> object:
    """Import a public name where it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mdrun' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
