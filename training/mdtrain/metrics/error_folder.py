"""A folder of pictures and their index, errors.csv: all of them get their names together, or none does.

The folder may hold other files, which stay. Of an earlier evaluation, the pictures that its index lists are replaced.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2

from mdrun.errors import OutputError
from mdrun.files import OutputFolder, PartialFile
from mdrun.sinks.text import Image
from mdtrain.outputs import result_folder

INDEX = "errors.csv"
FIRST, LAST = ("rank", "name"), "picture"  # columns by which an index is known
PICTURE = re.compile(r"\d+_[^/]+\.png")  # of the names in an index, which anybody may have edited
TIMES = {None: "", False: "day", True: "night"}  # column `time`, by Record.night


class ErrorFolder:
    """Takes the files of one evaluation; `error_folder` makes one.

    Attributes:
        path: of the folder.
        index: name of the index in it.
    """

    index = INDEX

    def __init__(self, path: Path, older: set[str]) -> None:
        self.path = path
        self._older = older
        self._files: list[PartialFile] = []
        self._names: list[str] = []

    @property
    def pictures(self) -> int:
        """Number of pictures so far."""
        return len(self._names)

    def add_picture(self, name: str, image: Image) -> str:
        """Write a picture, (h, w, 3) RGB; gives its name.

        Raises:
            OutputError: it cannot be encoded.
        """
        done, data = cv2.imencode(".png", image[..., ::-1])
        if not done:
            raise OutputError(f"{self.path / name}: cannot be encoded as PNG; leave --errors out")
        self._write(name, data.tobytes())
        self._names.append(name)
        return name

    def add_index(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Write the index: one row a pair in order of rank, columns as in the first row; None is an empty cell."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self._write(INDEX, text.getvalue().encode())

    def _write(self, name: str, data: bytes) -> None:
        file = PartialFile(self.path / name)
        self._files.append(file)
        file.part.write_bytes(data)

    def commit(self) -> None:
        """Name all files, the index last, and remove the pictures of an earlier evaluation.

        Raises:
            OutputError: a folder has the name of a file.
        """
        OutputFolder(self.path).refuse_folders(self._names)
        for file in self._files:
            file.commit()
        for stale in self._older - set(self._names):
            (self.path / stale).unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove what has no name yet."""
        for file in self._files:
            file.discard()


@contextmanager
def error_folder(path: Path) -> Iterator[ErrorFolder]:
    """A folder that is complete when the block ends, and as it was if the block fails.

    Raises:
        OutputError: it cannot be written, or holds an errors.csv that no evaluation wrote.
    """
    with result_folder(path):
        folder = ErrorFolder(path, _older_pictures(path))
        try:
            yield folder
            folder.commit()
        finally:
            folder.discard()


def _older_pictures(path: Path) -> set[str]:
    """Names of the pictures that the index of an earlier evaluation lists.

    Raises:
        OutputError: the index is none of ours, or a folder.
    """
    index = path / INDEX
    OutputFolder(path).refuse_folders([INDEX])
    if not index.exists():
        return set()
    try:
        with index.open(encoding="utf-8", newline="") as lines:
            header, *rows = [row for row in csv.reader(lines) if row] or [[]]
    except (UnicodeDecodeError, csv.Error):
        header, rows = [], []
    if tuple(header[:2]) != FIRST or header[-1] != LAST:
        raise OutputError(
            f"{index}: was not written by `mdtrain eval`, wanted a folder without such a file; choose another --errors"
        )
    return {row[-1] for row in rows if PICTURE.fullmatch(row[-1])}
