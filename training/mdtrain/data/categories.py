"""Categories of boxes: the names that a detector tells apart, in the order of the class index."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ALIASES = {"people": "person", "pedestrian": "person", "bike": "bicycle", "cyclist": "bicycle"}
NAMES_WANTED = "different names, whatever their case, without commas, slashes and blanks around them"


def index_of(name: str, categories: Sequence[str]) -> int | None:
    """Index of the category that a name stands for, whatever its case; None where it is none of them.

    The name itself goes first, then its singular, then what either is another word for: a cyclist is a bicycle only
    where no category is called so.
    """
    known = [category.lower() for category in categories]
    plain = name.strip().lower()
    words = plain, plain.removesuffix("s")
    for word in (*words, *(ALIASES.get(word, word) for word in words)):
        if word in known:
            return known.index(word)
    return None


def indices_of(names: Sequence[str], categories: Sequence[str]) -> NDArray[np.int64]:
    """(N,) index of each name's category; -1 where it is none of them."""
    found = [index_of(name, categories) for name in names]
    return np.array([-1 if index is None else index for index in found], np.int64)


def are_categories(names: Sequence[str]) -> bool:
    """Whether the names are such as NAMES_WANTED says."""
    plain = {name.strip().lower() for name in names}
    odd = any(not name or name != name.strip() or "," in name or "/" in name for name in names)
    return len(plain) == len(names) and not odd
