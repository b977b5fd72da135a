"""Answers that never end: pictures in a row (MJPEG), and events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from mdrun.web.pictures import Style
from mdrun.web.view import RigView

BOUNDARY = "mdrun-frame"
EVENT_S = 0.25  # a notice is shown this late at most
STATUS_S = 1.0
REPEAT_S = 1.0  # a stale picture is sent again so often, with its age


async def picture_stream(rig: RigView, style: Style) -> AsyncIterator[bytes]:
    """Parts of multipart/x-mixed-replace; a viewer who is slow gets the newest picture next, never a queue."""
    shot = None
    while not rig.closed:
        await rig.following(None if shot is None else shot.number, REPEAT_S)
        shot = rig.current()
        jpeg = await rig.picture(style, shot)
        head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
        yield head.encode() + jpeg + b"\r\n"


async def event_stream(rig: RigView) -> AsyncIterator[bytes]:
    """Server-sent events: first every notice kept, then `status` each second and each `notice` as it comes.

    https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    told: dict[str, dict[str, Any]] = {}
    told_point = float("-inf")
    next_status = 0.0
    yield b"retry: 1000\n\n"
    while not rig.closed:
        for log, entries in (("notices", rig.notices()), ("alarms", rig.alarms())):
            for notice in newer(entries, told.get(log)):
                told[log] = notice
                yield event("notice", notice)
        if time.monotonic() >= next_status:
            next_status = time.monotonic() + STATUS_S
            status = rig.status()
            points = [point for point in status["recent"] if point[0] > told_point]
            told_point = max((point[0] for point in points), default=told_point)
            slim = {key: value for key, value in status.items() if key != "notices"}
            yield event("status", slim | {"recent": points})
        await asyncio.sleep(EVENT_S)


def event(kind: str, data: dict[str, Any]) -> bytes:
    """One event."""
    return f"event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def newer(notices: list[dict[str, Any]], told: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Those after the one told last; all where that one is no longer kept."""
    for index in range(len(notices) - 1, -1, -1):
        if notices[index] is told:
            return notices[index + 1 :]
    return notices
