"""How the thermal image lies on the visible one."""

from __future__ import annotations

from mdrun.registration.mappings import Homography, Stereo
from mdrun.registration.model import Origin, Registration

__all__ = ["Homography", "Origin", "Registration", "Stereo"]
