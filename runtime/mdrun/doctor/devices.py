"""Local cameras: names that stay, formats, and whether this user may open them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mdrun.doctor.base import Check, Status, ok
from mdrun.sources.live import v4l2_api as api
from mdrun.text import clean

AREA = "cameras"
MOST_FORMATS = 64  # a bound for drivers that never say they are through


@dataclass(frozen=True)
class LocalCamera:
    """One V4L2 device.

    Attributes:
        path: for example `/dev/video0`.
        name: the driver's words for it.
        stable: its name below `/dev/v4l/by-id`, which survives replugging; empty where it has none.
        formats: pixel formats that it offers, for example `Y16`; None where it could not be asked.
        video: it gives images; a camera often has a second device for metadata.
        problem: why it could not be asked, else empty.
        denied: it could not be asked because this user may not open it.
    """

    path: str
    name: str
    stable: str
    formats: tuple[str, ...] | None
    video: bool
    problem: str = ""
    denied: bool = False


def check_devices(cameras: list[LocalCamera]) -> list[Check]:
    """Every check of this area."""
    shown = [camera for camera in cameras if camera.video]
    if not shown:
        means = "network cameras need none; in a container: docker run --device /dev/video0 …"
        return [Check(AREA, "V4L2", Status.MISSING, "no local camera", means)]
    return [_check(camera) for camera in shown]


def _check(camera: LocalCamera) -> Check:
    name, data = camera.path, {"path": camera.path, "name": camera.name, "by_id": camera.stable,
                               "formats": list(camera.formats or ())}  # fmt: skip
    if camera.problem:
        means = "see permissions" if camera.denied else ""
        return Check(AREA, name, Status.BROKEN, f"{camera.name}: {camera.problem}", means, data=data)
    found = f"{camera.name}: {', '.join(camera.formats or ()) or 'no formats'}"
    if not camera.stable:
        means = "it has no name that stays: /dev/video numbers change with the order of plugging in"
        return Check(AREA, name, Status.WARNING, found, means, "ls -l /dev/v4l/by-path", data=data)
    return ok(AREA, name, f"{found}; use {camera.stable}", data=data)


def list_cameras(
    root: Path = Path("/"), open_device: Callable[[str], api.Device] = api.KernelDevice
) -> list[LocalCamera]:
    """The V4L2 devices of this machine, by number. `root` and `open_device`: seams for tests."""
    stable = {link.resolve().name: str(Path("/dev/v4l/by-id") / link.name)
              for link in sorted((root / "dev/v4l/by-id").glob("*"), reverse=True)}  # fmt: skip
    folders = sorted((root / "dev").glob("video[0-9]*"), key=lambda path: (len(path.name), path.name))
    return [_ask(path, root, stable.get(path.name, ""), open_device) for path in folders]


def _ask(path: Path, root: Path, stable: str, open_device: Callable[[str], api.Device]) -> LocalCamera:
    shown, name = f"/dev/{path.name}", _driver_name(root / "sys/class/video4linux" / path.name / "name")
    try:
        device = open_device(str(path))
    except OSError as error:
        denied = error.errno in (errno.EACCES, errno.EPERM)
        return LocalCamera(shown, name, stable, None, video=True, problem=error.strerror or str(error), denied=denied)
    try:
        capability = api.Capability()
        device.ioctl(api.QUERYCAP, capability)
        can = capability.capabilities
        can = capability.device_caps if can & api.CAP_DEVICE_CAPS else can
        return LocalCamera(shown, name, stable, _formats(device), bool(can & api.CAP_VIDEO_CAPTURE))
    except OSError as error:
        return LocalCamera(shown, name, stable, None, video=True, problem=error.strerror or str(error))
    finally:
        device.close()


def _formats(device: api.Device) -> tuple[str, ...]:
    found: list[str] = []
    for index in range(MOST_FORMATS):
        description = api.FormatDescription(index=index, type=api.CAPTURE)
        try:
            device.ioctl(api.ENUM_FMT, description)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOTTY):  # the end of the list; no list at all
                break
            raise
        found.append(clean(description.pixelformat.to_bytes(4, "little").decode("latin-1")))
    return tuple(found)


def _driver_name(file: Path) -> str:
    try:
        return clean(file.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return "unnamed"


def may_open(path: Path) -> bool:
    """This user may read and write the file."""
    return os.access(path, os.R_OK | os.W_OK)
