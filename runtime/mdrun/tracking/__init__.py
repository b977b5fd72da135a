"""Stable ids over time, zones, lines, events and alarms."""

from __future__ import annotations

from mdrun.tracking.lines import event_to_dict
from mdrun.tracking.tracker import Tracker

__all__ = ["Tracker", "event_to_dict"]
