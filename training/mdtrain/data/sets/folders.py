"""Your own pairs, a folder a class: for `task=classify`.

Layout: `visible/CLASS/NAME.*`, `thermal/CLASS/NAME.*` (the same stem; another ending is fine), `SPLIT.txt` with one
`CLASS/NAME` a line. `mdtrain data split` writes `train.txt` and `val.txt`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from mdrun.errors import DataError, OutputError, SourceError, UsageError
from mdrun.sources.uri import IMAGE_SUFFIXES
from mdtrain.data.problems import each
from mdtrain.data.records import Record, make_record
from mdtrain.data.sets.lists import no_list, text_lists
from mdtrain.metrics.files import read_text

LAYOUT = "the layout is visible/CLASS/, thermal/CLASS/, train.txt, val.txt"
FEWEST = 2  # pairs of a class: one to learn from, one to validate
Files = Mapping[str, Path]


def read_folders(root: Path, split: str) -> list[Record]:
    """Pairs of a split, in the order of its list.

    Raises:
        SourceError: the list is missing, or it names a visible image that is not there.
        DataError: the list is not text, or a line is not `CLASS/NAME`.
    """
    listing = root / f"{split}.txt"
    if not listing.is_file():
        way_out = f"{LAYOUT}; `mdtrain data split {root}` writes both lists"
        raise no_list(f"{listing}: no such list of pairs", way_out, text_lists(root))
    visible, thermal = find_files(root / "visible"), find_files(root / "thermal")
    lines = [line.strip() for line in read_text(listing, "list of pairs").splitlines()]
    return each(filter(None, lines), lambda line: _record(listing, line, visible, thermal))


def find_files(folder: Path) -> dict[str, Path]:
    """Images one folder below, by `CLASS/STEM`, in the order of their names; hidden ones are left out."""
    files = sorted(
        path for path in folder.glob("[!.]*/[!.]*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    )
    return {f"{path.parent.name}/{path.stem}": path for path in files}


def _record(listing: Path, line: str, visible: Files, thermal: Files) -> Record:
    kind, slash, name = line.partition("/")
    if not (kind and slash and name) or "/" in name:
        raise DataError(f"{listing}: a line is {line!r}, wanted CLASS/NAME; {LAYOUT}")
    key = line if line in visible else f"{kind}/{Path(name).stem}"  # with or without the ending
    if key not in visible:
        raise SourceError(f"{listing}: names {line}, and {listing.parent / 'visible'} has no such file; {LAYOUT}")
    partner = thermal.get(key, listing.parent / "thermal" / kind / visible[key].name)  # a missing one is found later
    record = make_record(key, (visible[key], partner), np.zeros((0, 4)), np.zeros(0, np.int64))
    return replace(record, label=kind)


def write_lists(root: Path, share: float, seed: int) -> dict[str, list[str]]:
    """`train.txt` and `val.txt`: of each class the same share is for validation, one pair at least; gives the names.

    Which ones is a function of seed and name alone: a pair that joins the folder moves few others.

    Args:
        root: folder in the layout.
        share: for validation, in (0, 1).
        seed: of the choice.

    Raises:
        SourceError: no pairs, or a class with a single one.
        UsageError: a list is there already.
        OutputError: a list cannot be written.
    """
    visible, thermal = find_files(root / "visible"), find_files(root / "thermal")
    by_class: dict[str, list[str]] = {}
    for key in sorted(visible.keys() & thermal.keys()):
        by_class.setdefault(key.partition("/")[0], []).append(key)
    lone = next((name for name, keys in by_class.items() if len(keys) < FEWEST), None)
    if lone is not None or not by_class:
        found = f"holds no pairs of {LAYOUT}" if lone is None else f"its class {lone} has one pair"
        raise SourceError(f"{root}: {found}; wanted {FEWEST} of each class at least, one of them to validate")
    lists: dict[str, list[str]] = {"train": [], "val": []}
    for keys in by_class.values():
        drawn = sorted(keys, key=lambda key: hashlib.sha256(f"{seed}/{key}".encode()).digest())
        count = min(max(1, round(share * len(keys))), len(keys) - 1)
        lists["val"] += sorted(drawn[:count])
        lists["train"] += sorted(drawn[count:])
    if there := [f"{split}.txt" for split in lists if (root / f"{split}.txt").exists()]:
        raise UsageError(f"{root}: holds {there[0]} already, which may be a published split; remove it to draw anew")
    try:
        for split, names in lists.items():
            (root / f"{split}.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{error.filename}: cannot be written ({error.strerror}); copy the set") from error
    return lists
