"""Everything that a rig file names: cameras, engines, calibration, outputs."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mdrun.doctor.base import Check, failed, ok, side_by_side
from mdrun.doctor.libraries import describe_run, probe_engine
from mdrun.doctor.machine import check_disk
from mdrun.doctor.network import check_port, check_server
from mdrun.doctor.permissions import check_folder
from mdrun.doctor.sources import Look, Wanted, check_roles, look_at
from mdrun.errors import MdrunError
from mdrun.frames import Modality
from mdrun.rig.config import CameraConfig, RigConfig, read_rigs
from mdrun.rig.environment import expand
from mdrun.sinks.uri import OutputUri, is_folder, parse_output

AREA = "rig"
PORTS = {"mqtt": 1883, "mqtts": 8883, "rtsp": 554, "rtsps": 322, "http": 80, "https": 443}  # as registered with IANA
PAGE = ("127.0.0.1", 8080)  # of `--output http://` where it names none


def check_rig_file(path: Path) -> list[Check]:
    """Every check of every rig in the file."""
    try:
        rigs = read_rigs(path)
    except MdrunError as error:
        return [failed(AREA, str(path), error)]
    checks = [ok(AREA, str(path), f"{len(rigs)} rig{'s' if len(rigs) > 1 else ''}: {', '.join(r.rig for r in rigs)}")]
    for rig in rigs:
        checks += _cameras(rig)
        checks += [*_engines(rig), *_calibration(rig), *_outputs(rig)]
    return checks


def _cameras(rig: RigConfig) -> list[Check]:
    """All cameras at once: a stream that waits for another is not the one that a run will see."""
    found = side_by_side([partial(_camera, rig.rig, name, camera) for name, camera in rig.cameras.items()])
    looks = [look for _, looks in found for look in looks]
    return [check for checks, _ in found for check in checks] + check_roles(rig.rig, looks)


def _camera(rig: str, name: str, camera: CameraConfig) -> tuple[list[Check], list[Look]]:
    shown = f"{rig}/{name}"
    try:
        source = expand(camera.source, name)
    except MdrunError as error:
        return [failed("sources", shown, error)], []
    return look_at(Wanted(shown, source, Modality(camera.role), camera.timeout_s))


def _engines(rig: RigConfig) -> list[Check]:
    from mdrun.models import resolve

    checks = []
    for rung in rig.ladder.rungs:
        name = f"{rig.rig}: engine {Path(rung.engine).stem}"
        try:
            path = resolve(rung.engine)
        except MdrunError as error:
            checks.append(failed(AREA, name, error))
            continue
        checks.append(describe_run(AREA, name, probe_engine(str(path), rung.backend)))
    return checks


def _calibration(rig: RigConfig) -> list[Check]:
    if rig.calibration is None:
        means = "without one both cameras are taken to see the same; `mdrun calibrate registration` makes one"
        return [ok(AREA, f"{rig.rig}: calibration", "none", means)]
    from mdrun.registration.model import Registration

    try:
        found = Registration.load(rig.calibration).describe()
    except MdrunError as error:
        return [failed(AREA, f"{rig.rig}: calibration", error)]
    words = ", ".join(f"{key} {value}" for key, value in found.items() if isinstance(value, (str, int, float)))
    return [ok(AREA, f"{rig.rig}: calibration", words, data=found)]


def _outputs(rig: RigConfig) -> list[Check]:
    """Folders can be written, servers answer, ports are free."""
    tasks: list[Callable[[], list[Check]]] = [partial(_output, rig.rig, text) for text in rig.outputs]
    return [check for checks in side_by_side(tasks) for check in checks]


def _output(rig: str, text: str) -> list[Check]:
    if is_folder(text):
        return _place(f"{rig}: output {text}", Path(text))
    try:
        uri = parse_output(expand(text, "outputs"))
    except MdrunError as error:
        return [failed(AREA, f"{rig}: output", error)]
    name = f"{rig}: output {uri}"
    if uri.scheme:
        return [_server(name, uri)]
    path = Path(uri.path)
    if path.exists() and not path.is_dir() and os.access(path, os.W_OK):  # /dev/stdout, or a file to append to
        return [ok(AREA, name, f"{path} can be written")]
    return _place(name, path.parent)


def _server(name: str, uri: OutputUri) -> Check:
    if uri.kind == "http":
        return check_port(AREA, uri.host or PAGE[0], PAGE[1] if uri.port is None else uri.port, name=name)
    return check_server(AREA, name, uri.host or "", uri.port or PORTS[uri.scheme])


def _place(name: str, folder: Path) -> list[Check]:
    return [check_folder(AREA, folder, name=name), check_disk(AREA, folder, name=f"{name}: disk")]
