"""`mdrun doctor [SOURCE …] [--rig FILE]`."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import click

from mdrun.doctor.base import AREAS, Check, exit_code, side_by_side

EPILOG = """\b
Examples:
  mdrun doctor
  mdrun doctor rtsp://10.0.0.5/visible /dev/video2
  mdrun doctor --rig gate.yaml
  mdrun doctor --json | python3 -m json.tool

Exit code 0 where everything works that was asked for, else that of the first thing that does not: docs/doctor.md.
"""
LIGHT = ("cuda", "tensorrt", "tensorrt_rtx", "codecs", "gstreamer")
HEAVY = ("onnxruntime", "openvino")  # run engines: one after the other, or each would slow the other down


@click.command("doctor", epilog=EPILOG)
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@click.option("--rig", "rigs", multiple=True, metavar="FILE", help="Look at everything that a rig file names")
@click.option("--json", "as_json", is_flag=True, help="The checks as JSON")
def doctor(sources: tuple[str, ...], rigs: tuple[str, ...], as_json: bool) -> int:
    """Say what works on this machine, what does not, and how to mend it.

    Engine libraries, GPU, codecs, cameras, permissions, clock. Each SOURCE, and each camera of a rig, is connected and
    looked at for three seconds.
    """
    checks = examine_machine()
    checks += examine_sources(sources)
    for rig in rigs:
        checks += examine_rig(Path(rig))
    checks.sort(
        key=lambda check: AREAS.index(check.area)
    )  # as they are shown: the first broken one gives the exit code
    if as_json:
        from mdrun.doctor.report import to_dict

        click.echo(json.dumps(to_dict(checks), indent=2, ensure_ascii=False))
    else:
        from mdrun.doctor.report import print_checks
        from mdrun.tables import make_console

        print_checks(make_console(), checks)
    return exit_code(checks)


def examine_machine() -> list[Check]:
    """Every check that needs no camera."""
    from mdrun.doctor.codecs import check_codecs
    from mdrun.doctor.devices import check_devices, list_cameras
    from mdrun.doctor.gpu import check_gpu
    from mdrun.doctor.libraries import check_libraries
    from mdrun.doctor.machine import check_machine
    from mdrun.doctor.network import check_network
    from mdrun.doctor.packages import check_packages
    from mdrun.doctor.permissions import check_permissions
    from mdrun.doctor.probe import run_probe

    machine = check_machine()  # the load before we make one
    facts = dict(zip(LIGHT, side_by_side([partial(run_probe, name) for name in LIGHT]), strict=True))
    facts |= {name: run_probe(name) for name in HEAVY}
    cameras = list_cameras()
    return [
        *machine,
        *check_libraries(facts),
        *check_gpu(facts["cuda"]),
        *check_codecs(facts),
        *check_devices(cameras),
        *check_packages(),
        *check_permissions(cameras),
        *check_network(),
    ]


def examine_sources(sources: tuple[str, ...]) -> list[Check]:
    """Every check of the cameras of the command line; which one is the thermal camera is found out by looking."""
    from mdrun.doctor.sources import Wanted, look_at
    from mdrun.sources.uri import redact

    found = side_by_side([partial(look_at, Wanted(redact(source), source)) for source in sources])
    return [check for checks, _ in found for check in checks]


def examine_rig(path: Path) -> list[Check]:
    """Every check of what a rig file names."""
    from mdrun.doctor.rig import check_rig_file

    return check_rig_file(path)
