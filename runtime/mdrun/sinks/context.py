"""What a sink of a running rig gets to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mdrun.monitor import Monitor
from mdrun.sinks.scene import Look


@dataclass(frozen=True)
class SinkContext:
    """The rig behind the results.

    Attributes:
        rig: its name.
        classes: names, in the order of the class index.
        look: how results are drawn.
        monitor: its state, for status messages and pages.
        timed: frames carry capture times.
        thermal_used: some engine of the ladder takes the thermal image.
        commands: what a page with a token may ask for, by name: `set_registration` takes a path of a calibration file.
    """

    rig: str
    classes: list[str]
    look: Look
    monitor: Monitor
    timed: bool = True
    thermal_used: bool = True
    commands: dict[str, Callable[..., Any]] = field(default_factory=dict)
