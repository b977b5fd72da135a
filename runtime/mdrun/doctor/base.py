"""One check and what it says, and checks that run side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, TypeVar

from mdrun.errors import MdrunError
from mdrun.sources.uri import redact
from mdrun.text import clean

T = TypeVar("T")


class Status(str, Enum):
    """How one check ended."""

    OK = "ok"
    WARNING = "warning"  # works, but not as it should
    MISSING = "missing"  # is not there; many things may be
    BROKEN = "broken"  # is there, or was asked for, and does not work


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at and found.

    Attributes:
        area: the part of the machine, see AREAS.
        name: what was looked at.
        status: how it is.
        found: in one line, without credentials.
        means: what follows from it; empty where that is plain.
        mend: command or setting that mends it, to be copied; empty where nothing is wrong or nobody can tell.
        code: `MDR-` code that a run would end with; only of what is BROKEN and was asked for.
        data: the facts, as plain JSON data.
    """

    area: str
    name: str
    status: Status
    found: str
    means: str = ""
    mend: str = ""
    code: str = ""
    data: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The entry of `mdrun doctor --json`; keys are added, never renamed or removed."""
        return asdict(self) | {"status": self.status.value}


AREAS = (
    "machine", "engine libraries", "GPU", "codecs", "cameras", "packages", "permissions", "network", "sources", "rig"
)  # fmt: skip


def ok(area: str, name: str, found: str, means: str = "", data: Mapping[str, Any] | None = None) -> Check:
    """A check that found nothing wrong."""
    return Check(area, name, Status.OK, clean(found), means, data=dict(data or {}))


def failed(area: str, name: str, error: MdrunError) -> Check:
    """A check of something that was asked for, and the error that a run would end with."""
    return Check(area, name, Status.BROKEN, clean(redact(str(error))), code=error.code)


def exit_code(checks: Sequence[Check]) -> int:
    """0, or the exit code of the first broken thing that was asked for: the first digit of its `MDR-` code."""
    return next((int(check.code[4]) for check in checks if check.code and check.status is Status.BROKEN), 0)


def side_by_side(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """The results of all tasks, each run in a thread of its own; Ctrl-C does not wait for them.

    Raises:
        BaseException: what the first of them raised.
    """
    results: dict[int, T] = {}
    failures: dict[int, BaseException] = {}

    def work(index: int) -> None:
        try:
            results[index] = tasks[index]()
        except BaseException as error:  # noqa: BLE001, RUF100  # raised again below
            failures[index] = error

    threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[min(failures)]
    return [results[index] for index in range(len(tasks))]
