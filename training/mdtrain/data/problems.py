"""What a reader finds in a list besides its pairs, for `mdtrain data check`.

Of pairs without usable labels the first one stops a training, the command names all. Labels of what is not learnt are
left out by both, the command counts them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import NamedTuple, TypeVar

from mdrun.errors import DataError, SourceError

Problem = SourceError | DataError
Item = TypeVar("Item")
Read = TypeVar("Read")


class Findings(NamedTuple):
    """Of one list.

    Attributes:
        problems: why pairs have no usable labels, one a pair.
        left_out: boxes by what they are, where that is not learnt.
    """

    problems: list[Problem]
    left_out: Counter[str]


_findings: ContextVar[Findings | None] = ContextVar("findings", default=None)


@contextmanager
def all_findings() -> Iterator[Findings]:
    """Within it `each` leaves out what cannot be read, and adds why to what this gives; `leave_out` counts there."""
    found = Findings([], Counter())
    token = _findings.set(found)
    try:
        yield found
    finally:
        _findings.reset(token)


def name_command(read: Callable[[], list[Read]], command: str) -> list[Read]:
    """What `read` gives of a list; where a pair has no usable labels, the error names the command that lists all such.

    Raises:
        SourceError, DataError: as `read`.
    """
    try:
        return read()
    except (SourceError, DataError) as error:
        if not _of_a_pair(read):
            raise
        raise type(error)(f"{error}; `{command}` lists all") from error


def _of_a_pair(read: Callable[[], object]) -> bool:
    """Not of the list itself: reading goes on without it."""
    with all_findings() as found, suppress(SourceError, DataError):
        read()
    return bool(found.problems)


def leave_out(kind: str) -> None:
    """Count a box that is not learnt; outside of `all_findings` nobody asks."""
    if (found := _findings.get()) is not None:
        found.left_out[kind] += 1


def each(items: Iterable[Item], read: Callable[[Item], Read]) -> list[Read]:
    """What `read` makes of every item.

    Raises:
        SourceError, DataError: as `read`, outside of `all_findings`.
    """
    found = _findings.get()
    results = []
    for item in items:
        try:
            results.append(read(item))
        except (SourceError, DataError) as error:  # noqa: PERF203  # the next item may be fine
            if found is None:
                raise
            found.problems.append(error)
    return results
