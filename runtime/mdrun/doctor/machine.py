"""Python, memory, limits of the container, load, disk."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from pathlib import Path

from mdrun import __version__
from mdrun.doctor.base import Check, Status, ok
from mdrun.doctor.processor import check_processor

AREA = "machine"
LEAST_PYTHON = (3, 10)
LEAST_MEMORY = 500e6  # a rig of two cameras and an INT8 engine stays below
LEAST_DISK = 2e9  # an hour of results and overlay video
NO_LIMIT = 1 << 60  # cgroup v1 writes a huge number for none


def check_machine(folder: Path = Path(), root: Path = Path("/")) -> list[Check]:
    """Every check of this area. `folder`: where results go; `root`: of the file system, for tests."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [
        _python(),
        check_processor(AREA, cores, root / "proc/cpuinfo", platform.machine()),
        _load(cores, root / "proc/loadavg"),
        _memory(root / "proc/meminfo"),
        _limits(root, cores),
        check_disk(AREA, folder),
    ]


def _python() -> Check:
    version = platform.python_version()
    found = f"mdrun {__version__}, Python {version}, {platform.system()} {platform.release()} {platform.machine()}"
    data = {"mdrun": __version__, "python": version, "system": platform.system(), "machine": platform.machine()}
    if sys.version_info < LEAST_PYTHON:
        return Check(AREA, "Python", Status.BROKEN, found, "mdrun wants Python 3.10 or later", "", "MDR-100", data)
    if platform.system() != "Linux":
        return Check(AREA, "Python", Status.WARNING, found, "local cameras (V4L2) want Linux; the rest is untried", "",
                     data=data)  # fmt: skip
    return ok(AREA, "Python", found, data=data)


def _load(cores: int, file: Path) -> Check:
    try:
        load = float(file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return Check(AREA, "load", Status.MISSING, "not told by this system")
    found = f"{load:.1f} processes want to run, {cores} can"
    if load > cores:
        means = "other programs take time from engines and cameras; the times of engines below are longer than usual"
        return Check(AREA, "load", Status.WARNING, found, means, "top -o %CPU", data={"load": load})
    return ok(AREA, "load", found, data={"load": load})


def _memory(file: Path) -> Check:
    try:
        lines = dict(re.findall(r"^(\w+):\s+(\d+) kB$", file.read_text(), re.MULTILINE))
        total, free = (int(lines[key]) * 1024 for key in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError):
        return Check(AREA, "memory", Status.MISSING, "not told by this system")
    found = f"{_gigabytes(free)} free of {_gigabytes(total)}"
    data = {"bytes": total, "free_bytes": free}
    if free < LEAST_MEMORY:
        means = "a rig of two cameras takes up to 500 MB; the system may end it"
        return Check(AREA, "memory", Status.WARNING, found, means, "ps aux --sort=-rss | head", data=data)
    return ok(AREA, "memory", found, data=data)


def _limits(root: Path, cores: int) -> Check:
    """The container's own limits: the smallest from this process's group up to the root."""
    quota, memory = read_limits(root)
    data = {"cores": quota, "bytes": memory}
    parts = [f"{quota:g} of {cores} cores"] if quota is not None and quota < cores else []
    parts += [f"{_gigabytes(memory)} of memory"] if memory is not None else []
    if not parts:
        return ok(AREA, "limits", "none", data=data)
    found = ", ".join(parts)
    if memory is not None and memory < LEAST_MEMORY:
        means = "a rig of two cameras takes up to 500 MB; the system would end it"
        return Check(AREA, "limits", Status.WARNING, found, means, "docker run --memory 1g …", data=data)
    if quota is not None and quota < cores:
        means = "more engine threads than that only wait for each other"
        return Check(AREA, "limits", Status.WARNING, found, means, f"mdrun --threads {max(1, int(quota))} …", data=data)
    return ok(AREA, "limits", found, data=data)


def read_limits(root: Path) -> tuple[float | None, int | None]:
    """Cores and bytes that the control groups of this process allow (v2 and v1); None where there is no limit."""
    quotas, memories = [], []
    for group in _groups(root):
        quotas += _quota(_words(group / "cpu.max"))
        quotas += _quota(_words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us"))
        for name in ("memory.max", "memory.limit_in_bytes"):
            memories += [int(word) for word in _words(group / name) if word.isdigit() and int(word) < NO_LIMIT]
    return min(quotas, default=None), min(memories, default=None)


def _groups(root: Path) -> list[Path]:
    """Folders of the groups that this process is in, and of those above."""
    folders = []
    for line in _lines(root / "proc/self/cgroup"):
        _, names, place = line.split(":", 2)
        mounted = root / "sys/fs/cgroup" / names if names else root / "sys/fs/cgroup"
        inner = mounted / place.strip("/")
        folders += [inner, *(above for above in inner.parents if above == mounted or mounted in above.parents)]
    return folders


def _quota(words: list[str]) -> list[float]:
    """`max 100000`, `50000 100000`, `-1 100000`."""
    try:
        return [int(words[0]) / int(words[1])] if len(words) == 2 and int(words[0]) > 0 else []
    except (ValueError, ZeroDivisionError):
        return []


def _words(file: Path) -> list[str]:
    return " ".join(_lines(file)).split()


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []


def check_disk(area: str, folder: Path, name: str = "disk") -> Check:
    """Room for results in a folder, or in the nearest one above it that exists."""
    place = folder.resolve()
    place = next(found for found in (place, *place.parents) if found.is_dir())
    free = shutil.disk_usage(place).free
    found, data = f"{_gigabytes(free)} free at {place}", {"path": str(place), "free_bytes": free}
    if free < LEAST_DISK:
        means = "an hour of results with overlay video takes up to 2 GB; a full disk ends a run (exit code 6)"
        return Check(area, name, Status.WARNING, found, means, "mdrun --output jsonl:FILE?rotate=1d&keep=7 …",
                     data=data)  # fmt: skip
    return ok(area, name, found, data=data)


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
