"""Places for results, tried before the work that fills them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mdrun.errors import OutputError
from mdrun.files import OutputFolder


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
