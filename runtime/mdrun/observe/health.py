"""Liveness, readiness and start-up of running rigs, as orchestrators ask for them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from mdrun.frames import Modality
from mdrun.monitor import Monitor

KINDS = ("livez", "readyz", "startupz", "healthz")
SILENT_S = 15.0  # without an event of the loop: longer than any reconnect pause between two signs of life
OK, UNAVAILABLE = 200, 503


def health(monitors: Sequence[Monitor], kind: str) -> tuple[int, dict[str, Any]]:
    """HTTP status and JSON of one question.

    - `startupz`: every rig has given its first result (engines are loaded, cameras connected).
    - `readyz`: every rig gives results now, with a thermal image or without (`degraded` is ready).
    - `livez`: the process is worth keeping: its loop turns. A lost camera is no reason to restart it.
    - `healthz`: the same as `readyz`, for those who know one question only.

    Args:
        monitors: of the rigs of this process.
        kind: one of KINDS.
    """
    rigs = {monitor.rig: _rig(monitor) for monitor in monitors}
    passes = {
        "startupz": all(rig["results"] > 0 for rig in rigs.values()),
        "readyz": all(rig["state"] in {"ready", "degraded"} and not rig["silent"] for rig in rigs.values()),
        "livez": all(not rig["stuck"] for rig in rigs.values()),
    }
    good = bool(rigs) and passes["readyz" if kind == "healthz" else kind]
    return (OK if good else UNAVAILABLE), {"status": "ok" if good else "unavailable", "rigs": rigs}


def _rig(monitor: Monitor) -> dict[str, Any]:
    with monitor.lock:
        seen = monitor.cameras[Modality.VISIBLE].last_seen
        now = time.monotonic()
        silent_s = None if seen is None else now - seen
        return {
            "state": monitor.state(),
            "results": monitor.results,
            "silent": silent_s is not None and silent_s > SILENT_S,
            "stuck": now - monitor.beat > SILENT_S,
            "cameras": {role.value: camera.state.value for role, camera in monitor.cameras.items()},
        }
