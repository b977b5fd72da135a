"""May this user open cameras and write results?"""

from __future__ import annotations

import grp
import os
from pathlib import Path

from mdrun.doctor.base import Check, Status, ok
from mdrun.doctor.devices import LocalCamera
from mdrun.errors import OutputError

AREA = "permissions"


def check_permissions(cameras: list[LocalCamera], folder: Path = Path(), root: Path = Path("/")) -> list[Check]:
    """Every check of this area. `folder`: where results go; `root`: of the file system, for tests."""
    return [_video(cameras, root), check_folder(AREA, folder)]


def _video(cameras: list[LocalCamera], root: Path) -> Check:
    denied = [camera.path for camera in cameras if camera.denied]
    if denied:
        group = _group(root / denied[0].lstrip("/"))
        found = f"may not open {', '.join(denied)}"
        means = f"they belong to the group {group}, which this user is not in; log in again afterwards"
        return Check(AREA, "local cameras", Status.WARNING, found, means, f"sudo usermod -aG {group} $USER",
                     data={"denied": denied, "group": group})  # fmt: skip
    return ok(AREA, "local cameras", "all can be opened" if cameras else "none to open")


def check_folder(area: str, folder: Path, name: str = "") -> Check:
    """Can results be written there? A folder that does not exist yet is made by a run.

    `name`: of the output that wants it; without one nobody has asked for it.
    """
    place = folder.resolve()
    place = next(found for found in (place, *place.parents) if found.exists())
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return ok(area, name or "output folder", f"{place} can be written")
    why = "may not be written" if place.is_dir() else "is no folder"
    found, means = f"{place} {why}", "results want another place"
    if name:
        return Check(area, name, Status.BROKEN, found, means, f"sudo chown $USER {place}", OutputError.code)
    return Check(area, "output folder", Status.WARNING, found, means, "mdrun --output /tmp/run …")


def _group(device: Path) -> str:
    try:
        return grp.getgrgid(device.stat().st_gid).gr_name
    except (OSError, KeyError):
        return "video"
