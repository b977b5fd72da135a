"""mdrun: day-and-night scene analysis from a visible camera and a cheap thermal one.

    from mdrun import Engine

    with Engine.load("student.onnx") as engine:
        detections = engine.infer(visible_rgb, thermal_grey)

`Engine` and `Manifest` load on first use, so that `import mdrun` costs no image or engine library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mdrun.engine import Engine
    from mdrun.manifest import Manifest

__version__ = "0.1.0"
__all__ = ["Engine", "Manifest", "__version__"]

_HOMES = {"Engine": "mdrun.engine", "Manifest": "mdrun.manifest"}


def __getattr__(name: str) -> object:
    """Import a public name where it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mdrun' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
