"""Stable ids over time, zones, lines, events and alarms."""
