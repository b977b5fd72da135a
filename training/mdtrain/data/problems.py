"""Pairs of a list without usable labels: the first one stops a training, `mdtrain data check` wants to name all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from mdrun.errors import DataError, SourceError

Problem = SourceError | DataError
Item = TypeVar("Item")
Read = TypeVar("Read")

_problems: ContextVar[list[Problem] | None] = ContextVar("problems", default=None)


@contextmanager
def all_problems() -> Iterator[list[Problem]]:
    """Within it `each` leaves out what cannot be read, and adds why to the list that this gives."""
    found: list[Problem] = []
    token = _problems.set(found)
    try:
        yield found
    finally:
        _problems.reset(token)


def each(items: Iterable[Item], read: Callable[[Item], Read]) -> list[Read]:
    """What `read` makes of every item.

    Raises:
        SourceError, DataError: as `read`, outside of `all_problems`.
    """
    problems = _problems.get()
    results = []
    for item in items:
        try:
            results.append(read(item))
        except (SourceError, DataError) as error:  # noqa: PERF203  # the next item may be fine
            if problems is None:
                raise
            problems.append(error)
    return results
