"""Faults of cameras: each a small pure transformation of a replay's plan."""

from mdrun.record.faults.base import Fault, apply_faults

__all__ = ["Fault", "apply_faults"]
