"""Pairs of one's own cameras, without labels: sources as `mdrun` takes them, paired and resized by the runtime."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mdexport.pairs import INTACT, Scene, refuse_tiny
from mdrun.manifest import Manifest
from mdrun.pairing import PairLimits, PairStream
from mdrun.preprocess import Preprocess
from mdrun.sources import open_pair
from mdtrain.data.records import make_record

NO_BOXES, NO_CLASSES = np.zeros((0, 4)), np.zeros(0, np.int64)


class Recording(NamedTuple):
    """What two cameras saw: folders, videos or other sources of `mdrun`."""

    visible: str
    thermal: str

    @property
    def places(self) -> tuple[Path, ...]:
        """Files and folders that are read."""
        return tuple(Path(text.partition("?")[0]) for text in self if "://" not in text)

    def scenes(self, manifest: Manifest, count: int, most: int) -> list[Scene]:
        """At most `count` pairs at the engine's sizes, evenly spread over the first `most` visible frames.

        Every `step`-th pair is kept; when twice the wanted number is there, every other one goes and the step doubles.
        So memory does not grow with the sources, and an endless one ends.

        Raises:
            SourceError, DataError: a source cannot be read, or gives images of another kind.
            DataError: an image of a few pixels.
        """
        preprocess = Preprocess(manifest)
        kept: list[Scene] = []
        seen, step = 0, 1
        with PairStream(*open_pair(self.visible, self.thermal), PairLimits()) as stream:
            for pair in islice(stream, most):
                if pair.thermal is None:
                    continue
                if seen % step == 0:
                    refuse_tiny(Path(self.visible), pair.visible.image)
                    refuse_tiny(Path(self.thermal), pair.thermal.image)
                    feeds = preprocess(pair.visible.image, pair.thermal.image)
                    record = make_record(f"pair {seen}", (Path(self.visible), Path(self.thermal)), NO_BOXES, NO_CLASSES)
                    kept.append(Scene({name: array.copy() for name, array in feeds.items()}, record, INTACT))
                seen += 1
                if len(kept) == 2 * count:
                    kept, step = kept[::2], 2 * step
        chosen = np.linspace(0, len(kept) - 1, min(count, len(kept))).round().astype(int)
        return [kept[index] for index in chosen]

    def __str__(self) -> str:
        """Its name in reports, without the exporting machine's folders: last two parts of each path."""
        names = [text if "://" in text else "/".join(Path(text).parts[-2:]) for text in self]
        return " + ".join(dict.fromkeys(names))
