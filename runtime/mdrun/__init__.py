"""mdrun: day-and-night scene analysis from a visible camera and a cheap thermal one."""

from __future__ import annotations

__version__ = "0.1.0"
