"""Images as a source: a folder, a wildcard pattern or a single file."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from mdrun.errors import DataError, SourceError, UsageError
from mdrun.frames import Frame, Modality
from mdrun.sources.base import NS_PER_MS, NS_PER_S, Source
from mdrun.sources.images import read_image
from mdrun.sources.uri import IMAGE_SUFFIXES, SourceUri

FOREVER = -1  # of loop=, as in jetson-utils
_SHOWN = 3  # names in an error


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sorting key that counts: `frame2` before `frame10`."""
    parts = re.split(r"([0-9]+)", name)
    return [
        (1, int(part), part) if part.isascii() and part.isdigit() else (0, 0, part.casefold()) for part in parts if part
    ]


def find_images(path: str) -> list[Path] | None:
    """Image files of a folder, wildcard pattern or single file, in natural order; None if the path is no such thing.

    Raises:
        SourceError: if there is nothing, or no image among what is there.
    """
    place = Path(path).expanduser()
    try:
        if place.is_dir():
            found = list(place.iterdir())
        elif place.exists():
            return [place] if place.suffix.lower() in IMAGE_SUFFIXES and place.is_file() else None
        elif glob.has_magic(path):
            found = [Path(name) for name in glob.glob(str(place))]  # noqa: PTH207  # Path.glob takes no absolute pattern
        else:
            raise SourceError(f"{path}: no such file or folder; check the path")
        images = [p for p in found if p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != "." and p.is_file()]
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if not images:
        what = f"none of its {len(found)} entries is an image" if found else "nothing in it"
        raise SourceError(f"{path}: {what}; wanted {', '.join(s[1:] for s in IMAGE_SUFFIXES)} files")
    return sorted(images, key=lambda p: natural_key(str(p)))


class FolderSource(Source):
    """Image files one after the other, with `fps=` as a timed stream, else as stills."""

    def __init__(self, uri: SourceUri, images: list[Path], modality: Modality) -> None:
        """Take the files in the order given; options `fps`, `loop` and `offset_ms`.

        Raises:
            UsageError: if `offset_ms` is given without `fps`.
        """
        self._rate = uri.number("fps")
        offset_ms = uri.number("offset_ms")
        if offset_ms is not None and self._rate is None:
            raise UsageError(f"{uri.path}: offset_ms shifts capture times, stills have none; add fps=")
        place = Path(uri.path).expanduser()
        parent = place if place.is_dir() else images[0] if place.is_file() else images[0].parent
        super().__init__(parent.resolve().name, modality, self._rate is not None, round((offset_ms or 0.0) * NS_PER_MS))
        loop = uri.whole("loop") or 0
        self.images = images
        self._count = None if loop == FOREVER else len(images) * max(1, loop)
        self._size: tuple[int, int] | None = None

    def open(self) -> None:
        """Read the first image, so that a pair that cannot work fails before any result is written."""
        if self._size is None:
            image = read_image(self.images[0], self.modality)
            self._size = (image.shape[1], image.shape[0])

    def read(self) -> Frame | None:
        """Next image file."""
        index = self._sequence
        if self._count is not None and index >= self._count:
            return None
        path = self.images[index % len(self.images)]
        image = read_image(path, self.modality)
        return self._frame(image, round(index * NS_PER_S / (self._rate or 1.0)), str(path), path.name)

    def close(self) -> None:
        """Nothing stays open between two reads."""

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height) of the first image."""
        return self._size

    @property
    def frame_count(self) -> int | None:
        """Number of images, loops included; None for an endless loop."""
        return self._count


def check_stills(visible: FolderSource, thermal: FolderSource) -> None:
    """Stills pair by position: refuse folders that differ in number or file names.

    Raises:
        DataError: naming the counts and the first names found on one side only.
    """
    way_out = "give both folders the same file names, or add fps= to both to pair by time"
    counts = f"{len(visible.images)} visible and {len(thermal.images)} thermal stills"
    stems = [[path.stem for path in source.images] for source in (visible, thermal)]
    if stems[0] != stems[1]:
        sides = []
        for side, own, other in (("visible", *stems), ("thermal", *reversed(stems))):
            if alone := [stem for stem in own if stem not in set(other)]:
                sides.append(f"only {side}: {', '.join(alone[:_SHOWN])}{', …' if len(alone) > _SHOWN else ''}")
        where = "; ".join(sides) or "the same names in another order or number"
        raise DataError(f"{visible.name}, {thermal.name}: {counts} do not pair ({where}); {way_out}")
    if visible.frame_count != thermal.frame_count:
        raise DataError(f"{visible.name}, {thermal.name}: loop= differs; wanted the same on both")
