"""`mdrun.open`: a rig as an iterator of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mdrun.errors import RigError, UsageError
from mdrun.problems import find_problems, in_one_line
from mdrun.rig.check import check_rigs
from mdrun.rig.config import RigConfig
from mdrun.rig.flags import rigs_of
from mdrun.rig.session import Session


def open_rig(
    rig: str | Path | Mapping[str, Any] | RigConfig | None = None,
    *,
    visible: str | None = None,
    thermal: str | None = None,
    engine: str | Path | Sequence[str | Path] | None = None,
) -> Session:
    """Open two cameras, or recordings, and iterate over what an engine sees.

        with mdrun.open("gate.yaml") as session:
            for result in session:
                print(result.detections, result.thermal_provenance)

    Outputs of a rig file are not opened: the results are yours. Leaving the loop early is fine; `close`, or the `with`
    block, lets go of the cameras.

    Args:
        rig: rig file, or the same keys as a mapping; None takes everything from the other arguments.
        visible: source of the visible camera, or its name in the rig file.
        thermal: source of the thermal camera, or its name in the rig file.
        engine: an engine, or several: the ladder.

    Raises:
        RigError: the rig file cannot be used, or holds several rigs.
        UsageError: arguments that contradict each other or the file.
        MdrunError: an engine, a camera or a recording cannot be used.
    """
    if rig is None and visible is None:
        raise UsageError("mdrun.open wants a rig file, or visible= and thermal=")
    engines = [engine] if isinstance(engine, (str, Path)) else list(engine or [])
    flags = {"visible": visible, "thermal": thermal, "engine": [str(item) for item in engines]}
    if isinstance(rig, (str, Path)) or rig is None:
        configs = rigs_of([] if rig is None else [Path(rig)], flags)
    else:
        configs = rigs_of([], flags, base=_validated(rig).model_dump(mode="json", exclude_unset=True))
    if len(configs) > 1:
        raise RigError(f"{rig}: holds {len(configs)} rigs, mdrun.open takes one; name them in files of their own")
    without_outputs = [config.model_copy(update={"outputs": []}) for config in configs]
    check_rigs(without_outputs, [Path(rig)] if isinstance(rig, (str, Path)) else [], flags)
    return Session(configs[0])


def _validated(rig: Mapping[str, Any] | RigConfig) -> RigConfig:
    if isinstance(rig, RigConfig):
        return rig
    try:
        return RigConfig.model_validate(dict(rig))
    except ValidationError as error:
        raise RigError(in_one_line(find_problems(RigConfig, error))) from error
