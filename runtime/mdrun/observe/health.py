"""Liveness, readiness and start-up of running rigs, as orchestrators ask for them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from mdrun.monitor import Monitor

KINDS = ("livez", "readyz", "startupz", "healthz")
STUCK_S = 15.0  # the loop turns ten times a second; an engine that needs longer for one pair will not come back
OK, UNAVAILABLE = 200, 503


def health(monitors: Sequence[Monitor], kind: str) -> tuple[int, dict[str, Any]]:
    """HTTP status and JSON of one question.

    - `startupz`: every rig has given its first result (engines are loaded, cameras connected).
    - `readyz`: every rig gives results (`Monitor.state` is `ready` or `degraded`), with a thermal image or without.
    - `livez`: the process is worth keeping: its loop turns. A lost camera is no reason to restart it.
    - `healthz`: the same as `readyz`, for those who know one question only.

    Args:
        monitors: of the rigs of this process.
        kind: one of KINDS.
    """
    rigs = {monitor.rig: _rig(monitor) for monitor in monitors}
    passes = {
        "startupz": all(rig["results"] > 0 for rig in rigs.values()),
        "readyz": all(rig["state"] in {"ready", "degraded"} for rig in rigs.values()),
        "livez": all(not rig["stuck"] for rig in rigs.values()),
    }
    good = bool(rigs) and passes["readyz" if kind == "healthz" else kind]
    return (OK if good else UNAVAILABLE), {"status": "ok" if good else "unavailable", "rigs": rigs}


def _rig(monitor: Monitor) -> dict[str, Any]:
    with monitor.lock:
        return {
            "state": monitor.state(),
            "results": monitor.results,
            "stuck": time.monotonic() - monitor.beat > STUCK_S,
            "cameras": {role.value: camera.state.value for role, camera in monitor.cameras.items()},
        }
