"""The rig of a command line: a rig file, flags, or both; flags win."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mdrun.errors import UsageError
from mdrun.problems import find_problems, in_one_line
from mdrun.rig.config import RigConfig, read_rigs
from mdrun.sources.uri import is_live, parse_uri

ROLES = ("visible", "thermal")
_INDEX = re.compile(r"(?:cam)?(\d{1,3})")  # `cam0` and `0`: the first V4L2 device


def rigs_of(files: Sequence[Path], flags: Mapping[str, Any], base: dict[str, Any] | None = None) -> list[RigConfig]:
    """The rigs that a command line asks for.

    Args:
        files: rig files; none takes everything from the flags.
        flags: `visible`, `thermal`, `engine` (several: the ladder), `output` (several), `calibration`, `policy`,
            `max_skew`, `max_age`, `threshold`, `display_threshold`, `threads`, `backend`, `require_verified`, `start`;
            None or empty leaves the file's.
        base: keys of a rig in the place of a file.

    Raises:
        RigError: a rig file cannot be used.
        UsageError: flags that contradict each other or the file.
    """
    rigs = [rig for file in files for rig in read_rigs(file)]
    if len({rig.rig for rig in rigs}) < len(rigs):
        raise UsageError(f"rigs are named {', '.join(rig.rig for rig in rigs)}; wanted names that differ")
    if len(rigs) > 1 and (given := [f"--{role}" for role in ROLES if flags.get(role)]):
        raise UsageError(f"{' and '.join(given)} cannot belong to {len(rigs)} rigs; write it into their files")
    bases = [rig.model_dump(mode="json", exclude_unset=True) for rig in rigs] or [base or {}]
    return [_build(_with_flags(base, flags)) for base in bases]


def names_camera(text: str) -> bool:
    """A source that runs by itself or is replayed: `rtsp://…`, `/dev/video0`, `cam0`, `…?pace=live`, `replay://…`."""
    if _INDEX.fullmatch(text) and not Path(text).exists():
        return True
    uri = parse_uri(text)
    return uri.scheme == "replay" or is_live(uri)


def _build(data: dict[str, Any]) -> RigConfig:
    try:
        return RigConfig.model_validate(data)
    except ValidationError as error:
        raise UsageError(in_one_line(find_problems(RigConfig, error))) from error


def _with_flags(data: dict[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    cameras: dict[str, Any] = data.setdefault("cameras", {})
    for number, role in enumerate(ROLES):
        if text := flags.get(role):
            _set_camera(cameras, role, f"cam{number}", text)
    _add_replayed_thermal(cameras)
    if engines := flags.get("engine"):
        ladder = data.setdefault("ladder", {})
        ladder["engines"] = [{"engine": engine} for engine in engines]
    _set_ladder(data, flags)
    pairing = {"policy": flags.get("policy"), "skew_ms": flags.get("max_skew"), "age_ms": flags.get("max_age")}
    if chosen := {key: value for key, value in pairing.items() if value is not None}:
        data["pairing"] = data.get("pairing", {}) | chosen
    for key in ("calibration", "display_threshold", "start"):
        if flags.get(key) is not None:
            data[key] = flags[key]
    if flags.get("output"):
        data["outputs"] = list(flags["output"])
    return data


def _set_camera(cameras: dict[str, Any], role: str, name: str, text: str) -> None:
    """A name of the file gives that camera the role; anything else is the source of the role's camera."""
    if text in cameras:
        for other in [key for key, camera in cameras.items() if camera.get("role") == role and key != text]:
            del cameras[other]
        cameras[text] = cameras[text] | {"role": role}
        return
    found = _INDEX.fullmatch(text)
    source = f"/dev/video{found[1]}" if found and not Path(text).exists() else text
    holder = next((key for key, camera in cameras.items() if camera.get("role") == role), name)
    cameras[holder] = cameras.get(holder, {}) | {"source": source, "role": role}


def _add_replayed_thermal(cameras: dict[str, Any]) -> None:
    """A recording of both cameras, named once, is both."""
    sources = [camera.get("source", "") for camera in cameras.values()]
    if len(sources) == 1 and str(sources[0]).startswith("replay:"):
        cameras["cam1"] = {"source": sources[0], "role": "thermal"}


def _set_ladder(data: dict[str, Any], flags: Mapping[str, Any]) -> None:
    ladder: dict[str, Any] = data.get("ladder", {})
    for key in ("threads", "require_verified"):
        if flags.get(key):
            ladder[key] = flags[key]
    rungs = [{"engine": rung} if isinstance(rung, str) else rung for rung in ladder.get("engines") or []]
    for key in ("threshold", "backend"):
        if flags.get(key) is None:
            continue
        if not rungs:
            from mdrun.models import default_ladder

            rungs = [{"engine": str(path)} for path in default_ladder()]
        rungs = [rung | {key: flags[key]} for rung in rungs]
    if flags.get("display_threshold") is not None:  # the rig's, below
        rungs = [{key: value for key, value in rung.items() if key != "display_threshold"} for rung in rungs]
    if rungs:
        ladder["engines"] = rungs
    if ladder:
        data["ladder"] = ladder
