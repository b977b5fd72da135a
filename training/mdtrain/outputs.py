"""Places for results, tried before the work that fills them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mdrun.errors import OutputError
from mdrun.files import OutputFolder, PartialFile

AGAIN = "make room, and go on: a training with --resume, a sweep by the same command"


@contextmanager
def result_folder(path: Path) -> Iterator[None]:
    """Make a folder now; what was made is taken back if nothing ends up in it.

    Raises:
        OutputError: a file is in the way, or the place is not writable.
    """
    folder = OutputFolder(path)
    folder.create()
    try:
        yield
    finally:
        folder.remove_if_empty()


@contextmanager
def result_file(path: Path) -> Iterator[None]:
    """The same for the folder of one file.

    Raises:
        OutputError: a folder has the file's name, a file is in the folder's way, or the place is not writable.
    """
    if path.is_dir():
        raise OutputError(f"{path}: is a folder, wanted the name of a file to write; add one or choose another place")
    with result_folder(path.parent):
        yield


def write_text(path: Path, text: str, way_out: str = AGAIN) -> None:
    """Write a file of a run or a sweep whole; where that fails, an older one stays as it was.

    Raises:
        OutputError: there is no room, or no permission.
    """
    file = PartialFile(path)
    try:
        with told(path, way_out):
            file.part.write_text(text)
            file.commit()
    finally:
        file.discard()


@contextmanager
def told(path: Path, way_out: str) -> Iterator[None]:
    """The system's refusal to write, with the file's name and what to do.

    Raises:
        OutputError: there is no room, or no permission.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); {way_out}") from error
