"""Packages that only some runs want, and one that is often there twice."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata

from mdrun.doctor.base import Check, Status, ok

AREA = "packages"
OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")


@dataclass(frozen=True)
class Optional:
    """What an extra of mdrun brings."""

    name: str
    packages: tuple[str, ...]
    extra: str
    needed_for: str


OPTIONAL = (
    Optional("live page", ("starlette", "uvicorn"), "web", "`--output http://…`, health, `mdrun top`"),
    Optional("metrics", ("prometheus-client",), "web", "/metrics for Prometheus"),
    Optional("MQTT", ("paho-mqtt",), "mqtt", "`--output mqtt://…`"),
)


def check_packages() -> list[Check]:
    """Every check of this area."""
    return [_opencv(), *(_optional(wanted) for wanted in OPTIONAL)]


def _opencv() -> Check:
    found = {name: version for name in OPENCV if (version := installed(name))}
    words = ", ".join(f"{name} {version}" for name, version in found.items())
    if not found:  # a system's own build has no metadata; it counts only if it imports, which a run will tell
        return Check(AREA, "OpenCV", Status.WARNING, "not installed by pip", "a build of the system's may do")
    if len(found) > 1:
        means = "they share the folder cv2, and whichever came later has overwritten the other"
        mend = f"pip uninstall -y {' '.join(found)} && pip install opencv-python-headless"
        return Check(AREA, "OpenCV", Status.WARNING, words, means, mend, data=dict(found))
    return ok(AREA, "OpenCV", words, data=found)


def _optional(wanted: Optional) -> Check:
    found = {name: installed(name) for name in wanted.packages}
    lacking = [name for name, version in found.items() if not version]
    if lacking:
        mend = f'pip install "mdrun[{wanted.extra}]"'
        return Check(AREA, wanted.name, Status.MISSING, f"no {', no '.join(lacking)}", f"for {wanted.needed_for}", mend)
    return ok(AREA, wanted.name, ", ".join(f"{name} {version}" for name, version in found.items()), data=found)


def installed(package: str) -> str:
    """Version of a package, empty where it is not installed; without importing it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
