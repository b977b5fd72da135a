"""What a reader says about a list of names that its set does not have."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mdrun.errors import SourceError


def text_lists(root: Path) -> list[str]:
    """Lists of a set that keeps each as `LIST.txt` in its folder."""
    return sorted(path.stem for path in root.glob("*.txt"))


def no_list(missing: str, way_out: str, there: Iterable[str]) -> SourceError:
    """The error for a list that is missing, naming those that are there.

    Args:
        missing: what was looked for.
        way_out: the layout that was wanted.
        there: names of the lists that the set has.
    """
    names = ", ".join(there)
    return SourceError(f"{missing}; {way_out}" + (f"; lists that are there: {names}" if names else ""))
