"""Readers of labelled sets, one file a set. A reader gives records without opening an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from mdrun.errors import UsageError
from mdtrain.data.records import CLASSES, Record
from mdtrain.data.sets.coco import coco_lists, read_coco
from mdtrain.data.sets.flir import PUBLISHED, flir_lists, read_flir
from mdtrain.data.sets.folders import read_folders
from mdtrain.data.sets.kaist import KaistLabels, read_kaist
from mdtrain.data.sets.lists import text_lists
from mdtrain.data.sets.llvip import FOLDERS, llvip_lists, read_llvip
from mdtrain.data.sets.mfnet import read_mfnet
from mdtrain.data.sets.msrs import read_msrs
from mdtrain.data.sets.roadscene import read_roadscene
from mdtrain.data.sets.street import read_street

DownloadedSet = Literal["msrs", "roadscene", "kaist", "flir", "llvip", "coco", "mfnet", "folders"]
SetName = Literal[DownloadedSet, "street"]
SET_NAMES: tuple[SetName, ...] = get_args(SetName)
DEFAULT_LABELS = {"msrs": "fusion", "kaist": "sanitized"}  # of sets that come with several


def read_set(
    name: SetName,
    root: Path,
    split: str,
    labels: str = "fusion",
    kaist_labels: KaistLabels = "sanitized",
    categories: Sequence[str] = CLASSES,
) -> list[Record]:
    """Records of one split of the set in `root`.

    Args:
        name: of the set.
        root: its folder.
        split: its list.
        labels: view of MSRS.
        kaist_labels: version of KAIST's.
        categories: names of the boxes that are wanted, by class index; the others are left out.

    Raises:
        SourceError: a list or a file of labels is missing.
        DataError: a malformed label.
        UsageError: the set has no such split.
    """
    if name == "msrs":
        return read_msrs(root, split, labels, categories)
    if name == "kaist":
        return read_kaist(root, split, kaist_labels, categories)
    if name == "roadscene":
        if split != "train":
            raise UsageError(
                f"roadscene has no list {split!r}, all of it is 'train'; to choose by scores, validate on another set"
            )
        return read_roadscene(root, categories)
    if name == "mfnet":
        return read_mfnet(root, split)
    if name == "folders":
        return read_folders(root, split)
    readers = {"flir": read_flir, "llvip": read_llvip, "coco": read_coco, "street": read_street}
    return readers[name](root, split, categories)


def other_lists(name: SetName, root: Path, split: str) -> list[str]:
    """Lists that the set in `root` has besides `split`, as errors about a list that is missing name them."""
    if name == "roadscene":
        return []
    readers = {"flir": flir_lists, "llvip": llvip_lists, "coco": coco_lists}
    there = text_lists(root / "imageSets") if name == "kaist" else readers.get(name, text_lists)(root)
    aliases = {"flir": PUBLISHED, "llvip": FOLDERS}.get(name, {})  # two names of one list
    return [other for other in there if other not in (split, aliases.get(split))]
