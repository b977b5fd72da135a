"""A machine, as far as engines care."""

from __future__ import annotations

import platform
from dataclasses import dataclass

from mdrun.backends.nvidia.library import library_version
from mdrun.driver import Driver, DriverError, find_driver, l4t_release


@dataclass(frozen=True)
class Machine:
    """What an engine finds.

    Attributes:
        platform: operating system and processor, for example `linux-aarch64`.
        library: version of the engine's library; None where it is not installed.
        driver: the CUDA driver; None where there is none that works.
        without_driver: why there is none.
        l4t: release of Jetson Linux.
    """

    platform: str
    library: str | None
    driver: Driver | None
    without_driver: str = ""
    l4t: str | None = None


def this_machine(target: str) -> Machine:
    """What is here, for engines of this target."""
    driver, why = None, ""
    try:
        driver = find_driver()
    except DriverError as error:
        why = str(error)
    return Machine(platform_name(), library_version(target), driver, why, l4t_release())


def platform_name() -> str:
    """Operating system and processor, for example `linux-x86_64`."""
    return f"{platform.system().lower()}-{platform.machine()}"
