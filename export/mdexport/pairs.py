"""Labelled pairs for calibration and for the parity gate, and what a camera can do to them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from mdrun.backends.base import Feeds
from mdrun.errors import DataError, SourceError, UsageError
from mdrun.manifest import Manifest
from mdrun.preprocess import Preprocess, thermal_rule
from mdrun.thermal.normalise import Rule
from mdtrain.commands.labelled import LABELS
from mdtrain.data.records import CLASSES, EIGHT_BITS, MOST_STRETCH, Record, check_command, check_records, use_rule
from mdtrain.data.sets import DEFAULT_LABELS, SET_NAMES, SetName, read_set

FEWEST = 16  # pairs: below it neither ranges nor rates say anything
ALTERED_EVERY = 4  # one of so many pairs also goes through the gate with a camera that fails
LEAST_SIDE = 4  # pixels: the coarsest thermal array has 16x4 (Melexis MLX90621)
MOST_BLANK = 0.1  # share of the pairs: a shutter that closes now and then is no dead camera
INTACT = "intact"
FOLDERS = "the folders of the two cameras"
T = TypeVar("T")


class PairSet(NamedTuple):
    """A folder of labelled pairs and the layout that it has.

    Attributes:
        name: layout, one of `mdtrain`'s sets.
        folder: where it is.
        labels: kind of labels, of sets with several; None for the set's first.
    """

    name: SetName
    folder: Path
    labels: str | None = None

    @property
    def places(self) -> tuple[Path, ...]:
        """Files and folders that are read."""
        return (self.folder,)

    def read_for(self, manifest: Manifest, split: str) -> list[Record]:
        """`read` by the rule of the engine's thermal input and, of detectors, with their categories."""
        return self.read(split, thermal_rule(manifest), manifest.classes if manifest.task == "detect" else CLASSES)

    def read(self, split: str, rule: Rule = EIGHT_BITS, categories: Sequence[str] = CLASSES) -> list[Record]:
        """Pairs of one list, each once, all of whose files are there.

        Args:
            split: the list.
            rule: of thermal images.
            categories: names of boxes, by class index; the others are left out.

        Raises:
            SourceError: a folder, a list or a file is missing, or the list is empty.
            DataError: a malformed label, or the folders of the two cameras are swapped.
        """
        if self.name in {"msrs", "street"}:  # before their labels, which are read first and are rarely what is missing
            missing = [camera for camera in ("vi", "ir") if not (self.folder / camera).is_dir()]
            if len(missing) == 1:
                raise SourceError(
                    f"{self.folder / missing[0]}: no such folder, wanted vi/ and ir/, a camera each; copy it"
                )
        labels: dict[str, Any] = {"categories": categories}
        if self.labels is not None:
            labels["kaist_labels" if self.name == "kaist" else "labels"] = self.labels
        listed = read_set(self.name, self.folder, split, **labels)
        records = list({(record.visible_file.path, record.thermal_file.path): record for record in listed}.values())
        use_rule(records, rule)
        with naming_cameras(FOLDERS):
            check_records(records, self.folder, check_command(self.name, self.folder, split, **labels, rule=rule))
        return records

    def describe(self, split: str, task: str) -> str:
        """Name of a list in reports; of sets with several kinds of boxes, which they are."""
        kind = self.labels or DEFAULT_LABELS.get(self.name)
        return f"{self} {split}" + (f", {kind} labels" if kind and task == "detect" else "")

    def __str__(self) -> str:
        """Its name in reports: the layout and the folder's own name, not where the exporting machine has it."""
        return self.folder.name if self.folder.name == self.name else f"{self.name} {self.folder.name}"


@contextmanager
def naming_cameras(names: str) -> Iterator[None]:
    """Errors of swapped images name what was given, where the runtime's readers name flags of `mdrun`."""
    try:
        yield
    except DataError as error:
        raise DataError(str(error).replace("--visible and --thermal", names)) from error


def parse_pairs(text: str, labels: str | None = None) -> PairSet:
    """`FOLDER` or `SET=FOLDER`, and the kind of labels.

    Raises:
        UsageError: no such set or folder, its layout is not told by its name or by what is in it, or the set has no
            such labels.
    """
    name, found, rest = text.partition("=")
    if found and name in SET_NAMES:
        folder = Path(rest)
    else:
        folder = Path(text)
        name = _layout(folder)
    if found and name not in SET_NAMES and not folder.exists():
        raise UsageError(f"{text}: {text.partition('=')[0]} is no set, wanted one of {', '.join(SET_NAMES)}")
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder, wanted labelled pairs; name one such as DATA/rgbt/msrs")
    if name not in SET_NAMES:
        raise UsageError(
            f"{folder}: its layout is not known by its name or its folders; say which of {', '.join(SET_NAMES)} "
            f"it has: msrs={folder}"
        )
    known = LABELS.get(name, ())
    if labels is not None and labels not in known:
        wanted = f"wanted {', '.join(known)}" if known else "which has one kind"
        raise UsageError(f"got --labels {labels} for {name}, {wanted}; leave --labels out for the default")
    return PairSet(name, folder, labels)


def _layout(folder: Path) -> str:
    if folder.name in SET_NAMES:
        return folder.name
    if (folder / "label_maps").is_dir():
        return "street"
    return "msrs" if (folder / "vi").is_dir() and (folder / "ir").is_dir() else ""


def spread(records: Sequence[Record], count: int) -> list[Record]:
    """`count` of the records, evenly spread over those by day and those by night, half of each where both exist.

    Raises:
        UsageError: fewer than FEWEST pairs.
    """
    refuse_few(min(count, len(records)))
    nights = [index for index, record in enumerate(records) if record.night]
    others = [index for index, record in enumerate(records) if not record.night]
    share = min(len(nights), max(count // 2, count - len(others)))
    chosen = [*evenly(nights, share), *evenly(others, count - share)]
    return [records[index] for index in sorted(chosen)]


def count_different(scenes: Iterable[Scene]) -> int:
    """Scenes that no other is equal to, byte by byte: a camera that stands still gives one image again and again."""
    return len({hashlib.sha256(b"".join(map(bytes, scene.feeds.values()))).digest() for scene in scenes})


def refuse_few(count: int, what: str = "pairs") -> None:
    """Refuse to measure on a handful of pairs.

    Raises:
        UsageError: fewer than FEWEST.
    """
    if count < FEWEST:
        raise UsageError(
            f"got {count} {what}, wanted at least {FEWEST} different ones: fewer show neither the range of values nor "
            "what is lost; name a larger set or ask for more"
        )


def times_of(scenes: Iterable[Scene]) -> set[bool]:
    """Whether they were taken by night, as far as the set says."""
    return {scene.record.night for scene in scenes if scene.record.night is not None}


def count_times(scenes: Iterable[Scene]) -> str:
    """` (16 by day, 16 by night)`; empty where the set does not say."""
    nights = [scene.record.night for scene in scenes if scene.record.night is not None]
    return f" ({len(nights) - sum(nights)} by day, {sum(nights)} by night)" if nights else ""


def evenly(items: Sequence[T], count: int) -> list[T]:
    """`count` of the items from the first to the last, in their order; all of them where there are no more."""
    return [items[place] for place in np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)]


class Scene(NamedTuple):
    """What the cameras give, at the engine's sizes.

    Attributes:
        feeds: inputs of the engine.
        record: the labelled pair.
        condition: INTACT, or what is wrong with a camera.
    """

    feeds: Feeds
    record: Record
    condition: str


def intact(manifest: Manifest, records: Iterable[Record]) -> list[Scene]:
    """Every pair as it was recorded, brought to the engine's sizes by the runtime's own code.

    Raises:
        SourceError: an image cannot be read.
        DataError: an image of another kind, of a few pixels, or two of a pair that do not show one field of view.
    """
    records = list(records)
    use_rule(records, thermal_rule(manifest))
    preprocess = Preprocess(manifest)
    scenes = []
    for record in records:
        with naming_cameras(FOLDERS):
            visible, thermal = record.visible, record.thermal if "thermal" in manifest.inputs else None
        refuse_tiny(record.visible_file.path, visible)
        if thermal is not None:
            refuse_tiny(record.thermal_file.path, thermal)
            _refuse_other_view(record, visible, thermal)
        feeds = preprocess(visible, thermal, normalised=True)
        scenes.append(Scene({name: array.copy() for name, array in feeds.items()}, record, INTACT))
    return scenes


def refuse_tiny(path: Path, image: NDArray[Any]) -> None:
    """Refuse images that no camera gives.

    Raises:
        DataError: naming the file and the least size.
    """
    height, width = image.shape[:2]
    if min(height, width) < LEAST_SIDE:
        raise DataError(
            f"{path}: is {width}x{height} pixels, wanted at least {LEAST_SIDE}x{LEAST_SIDE}; take it out of the list"
        )


def refuse_blank(scenes: Sequence[Scene]) -> None:
    """Refuse pairs of which a camera was dead: ranges of blank images fit nothing that it will ever show.

    Raises:
        DataError: naming the first blank image and how many there are.
    """
    for name in scenes[0].feeds:
        blank = [scene.record for scene in scenes if not np.ptp(scene.feeds[name])]
        if len(blank) > MOST_BLANK * len(scenes):
            file = blank[0].visible_file if name == "visible" else blank[0].thermal_file
            raise DataError(
                f"{file.path}: has one value everywhere, as {len(blank)} of {len(scenes)} {name} images have, wanted "
                f"at most {MOST_BLANK:.0%}: that camera shows nothing; name other pairs"
            )


def refuse_shared(calibrating: Sequence[Scene], judging: Sequence[Scene], data: str) -> None:
    """Refuse to judge by pairs that calibrate: ranges that were made to fit them fit others less well.

    Raises:
        DataError: names the first such pair, and how many of `data`, the pairs that judge, there are.
    """
    known = {path for scene in calibrating for path in _real_paths(scene.record)}
    judges = {scene.record.visible_file.path: scene.record for scene in judging}  # some are there with failing cameras
    if shared := [path for path, record in judges.items() if not known.isdisjoint(_real_paths(record))]:
        raise DataError(
            f"{shared[0]}: {len(shared)} of the {len(judges)} pairs that judge ({data}) calibrate as well, wanted "
            "pairs that only judge; take another --calibration-list or --list, or name other --pairs"
        )


def _real_paths(record: Record) -> set[str]:
    """Images of a pair; links to one file are one."""
    return {os.path.realpath(file.path) for file in (record.visible_file, record.thermal_file)}


def _refuse_other_view(record: Record, visible: NDArray[np.uint8], thermal: NDArray[np.uint8]) -> None:
    wide, thermal_wide = (image.shape[1] / image.shape[0] for image in (visible, thermal))
    if not 1 / MOST_STRETCH <= wide / thermal_wide <= MOST_STRETCH:
        raise DataError(
            f"{record.thermal_file.path}: is {thermal_wide:.2f} times as wide as high, its visible image {wide:.2f} "
            f"times; wanted one field of view, proportions within {MOST_STRETCH - 1:.0%}; crop one of them"
        )


def altered(scenes: Sequence[Scene], every: int = ALTERED_EVERY) -> list[Scene]:
    """Some scenes again with a camera that is black, or a thermal one whose shutter still shows the scene before."""
    made = []
    for index in range(0, len(scenes), every):
        scene, before = scenes[index], scenes[index - 1]
        made.append(_with(scene, "visible", np.zeros_like(scene.feeds["visible"]), "visible black"))
        if "thermal" in scene.feeds:
            made.append(_with(scene, "thermal", np.zeros_like(scene.feeds["thermal"]), "thermal black"))
            made.append(_with(scene, "thermal", before.feeds["thermal"], "thermal frozen"))
    return made


def _with(scene: Scene, name: str, array: NDArray[np.uint8], condition: str) -> Scene:
    return scene._replace(feeds=scene.feeds | {name: array}, condition=condition)
