"""The clock that cameras' own times are held against, ports, and servers that a rig sends to."""

from __future__ import annotations

import ctypes
import socket
from dataclasses import dataclass

from mdrun.doctor.base import Check, Status, ok
from mdrun.errors import SinkError

AREA = "network"
PAGE_PORT = 8080  # of the live page, where none is given
CONNECT_S = 3.0  # for a server in the same network
TIME_ERROR, UNSYNCHRONISED = 5, 0x40  # return value and STA_UNSYNC of adjtimex(2)
LARGE_ERROR_US = 100_000  # the kernel's own bound; above it pairs by the cameras' clocks are not to be trusted


class _Timex(ctypes.Structure):
    """`struct timex` of `sys/timex.h` up to `status`, and room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 64),
    )


@dataclass(frozen=True)
class ClockState:
    """What the kernel says about its clock: something sets it, and how far off it may be, in microseconds."""

    synchronised: bool
    most_error_us: int


def check_network() -> list[Check]:
    """Every check of this area."""
    return [_clock(read_clock()), check_port(AREA, "127.0.0.1", PAGE_PORT)]


def _clock(state: ClockState | None) -> Check:
    if state is None:
        return Check(AREA, "clock", Status.MISSING, "not told by this system")
    data = {"synchronised": state.synchronised, "most_error_us": state.most_error_us}
    means = (
        "RTSP cameras tell their own time of capture; it is used only where it agrees with this machine's clock, else "
        "images count from their arrival. Set the clocks of cameras and machine by one server"
    )
    if not state.synchronised:
        mend = "sudo timedatectl set-ntp true"
        return Check(AREA, "clock", Status.WARNING, "not synchronised: nothing sets it", means, mend, data=data)
    found = f"synchronised, at most {state.most_error_us / 1000:.1f} ms off"
    if state.most_error_us > LARGE_ERROR_US:
        return Check(AREA, "clock", Status.WARNING, found, means, "chronyc tracking", data=data)
    return ok(AREA, "clock", found, data=data)


def read_clock() -> ClockState | None:
    """The kernel's view of the system clock (adjtimex, read only); None where it gives none."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        values = _Timex()
        code = library.adjtimex(ctypes.byref(values))
    except (OSError, AttributeError):
        return None
    if code < 0:
        return None
    return ClockState(code != TIME_ERROR and not values.status & UNSYNCHRONISED, values.maxerror)


def check_port(area: str, host: str, port: int, name: str = "") -> Check:
    """Is a port free to listen on? `name`: of the output that wants it; without one nobody has asked for it."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        with socket.socket(*found[0][:3]) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the page does
            probe.bind(found[0][4])
    except OSError as error:
        words = f"{host}:{port}: {error.strerror or error}"
        means = "another program, or another mdrun, listens there" if port else ""
        mend = f"ss -ltnp 'sport = :{port}'"
        if name:
            return Check(area, name, Status.BROKEN, words, means, mend, SinkError.code)
        return Check(area, "live page", Status.WARNING, words, means, mend)
    return ok(area, name or "live page", f"port {port} is free on {host}")


def check_server(area: str, name: str, host: str, port: int) -> Check:
    """Does a server that results go to take connections?"""
    try:
        socket.create_connection((host, port), CONNECT_S).close()
    except OSError as error:
        why = f"no answer within {CONNECT_S:g} s" if isinstance(error, TimeoutError) else error.strerror or str(error)
        means = "a run goes on without it, and counts what it cannot send"
        return Check(area, name, Status.BROKEN, f"{host}:{port}: {why}", means, f"nc -vz {host} {port}", SinkError.code)
    return ok(area, name, f"{host}:{port} answers")
