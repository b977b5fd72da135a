"""Recordings of one's own cameras, without labels: folders, videos and replays as `mdrun` reads and pairs them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mdexport.pairs import INTACT, Scene, evenly, refuse_tiny
from mdrun.errors import DataError, UsageError
from mdrun.frames import Modality
from mdrun.manifest import Manifest
from mdrun.pairing import PairLimits, PairStream
from mdrun.preprocess import Preprocess
from mdrun.sources import open_pair, open_source
from mdtrain.data.records import is_grey, make_record

NO_BOXES, NO_CLASSES = np.zeros((0, 4)), np.zeros(0, np.int64)
Names = tuple[str | None, str | None]
FLAG = re.compile(r"--(?=(?:visible|thermal)\b)")


class Recording(NamedTuple):
    """What the cameras saw; `thermal` is None where an engine of one camera needs no other."""

    visible: str
    thermal: str | None

    @property
    def places(self) -> tuple[Path, ...]:
        """Files and folders that are read."""
        return tuple(Path(text.partition("?")[0]) for text in self if text is not None and "://" not in text)

    def scenes(self, manifest: Manifest, count: int, most: int) -> list[Scene]:
        """At most `count` pairs at the engine's sizes, evenly spread over the first `most` visible frames.

        Every `step`-th pair is kept; when twice the wanted number is there, every other one goes and the step doubles.
        So memory does not grow with the sources, and an endless one ends.

        Raises:
            SourceError, DataError: a source cannot be read, or gives images of another kind.
            DataError: an image of a few pixels.
            UsageError: the engine wants a thermal image, and there is no thermal recording.
        """
        if self.thermal is None and "thermal" in manifest.inputs:
            raise UsageError(
                f"got the visible recording {self.visible} alone, the engine takes both cameras; name both"
            )
        preprocess = Preprocess(manifest)
        kept: list[Scene] = []
        step = 1
        for number, (images, names) in enumerate(self._pairs(most)):
            if number % step == 0:
                for text, image in zip(self, images, strict=True):
                    if text is not None and image is not None:
                        refuse_tiny(Path(text), image)
                feeds = preprocess(*images)
                files = _file(self.visible, names[0]), _file(self.thermal or self.visible, names[1])
                record = make_record(f"pair {number}", files, NO_BOXES, NO_CLASSES)
                kept.append(Scene({name: array.copy() for name, array in feeds.items()}, record, INTACT))
            if len(kept) == 2 * count:
                kept, step = kept[::2], 2 * step
        return evenly(kept, count)

    def _pairs(self, most: int) -> Iterator[tuple[tuple[NDArray[Any], NDArray[Any] | None], Names]]:
        """Images of the first `most` visible frames, where both cameras have one, and the names of their files."""
        if self.thermal is None:
            with open_source(self.visible, Modality.VISIBLE) as source:
                for frame in islice(iter(source.read, None), most):
                    yield (frame.image, None), (frame.name, frame.name)
            return
        with PairStream(*open_pair(self.visible, self.thermal), PairLimits()) as stream:
            for pair in islice(stream, most):
                if pair.thermal is not None:
                    yield (pair.visible.image, pair.thermal.image), (pair.visible.name, pair.thermal.name)

    def __str__(self) -> str:
        """Its name in reports, without the exporting machine's folders: last two parts of each path."""
        names = [text if "://" in text else "/".join(Path(text).parts[-2:]) for text in self if text is not None]
        return " + ".join(dict.fromkeys(names))


def _file(text: str, name: str | None) -> Path:
    """The image itself where the recording is a folder or a pattern, else the recording."""
    place = Path(text.partition("?")[0])
    image = (place if place.is_dir() else place.parent) / (name or "")
    return image if image.is_file() else Path(text)


def refuse_grey(recording: Recording, scenes: list[Scene]) -> None:
    """Refuse a visible recording without any colour: it is the thermal camera's.

    Raises:
        DataError: naming it.
    """
    if scenes and all(is_grey(scene.feeds["visible"][0]) for scene in scenes):
        raise DataError(
            f"{recording.visible}: none of its {len(scenes)} images has colour, wanted those of the visible camera; "
            "is it the thermal camera's?"
        )


@contextmanager
def calibration_flags() -> Iterator[None]:
    """Errors name the flags of a calibration, where the runtime's readers name those of `mdrun`."""
    try:
        yield
    except (DataError, UsageError) as error:
        raise type(error)(FLAG.sub("--calibration-", str(error))) from error
