"""Places that results go to: what must not be replaced there, and what a disk says that does not take them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mdrun.errors import OutputError, UsageError
from mdrun.files import LOCK, Lock

ONNX_SUFFIXES = (".onnx",)
JPEG_SUFFIXES = (".jpg", ".jpeg")


def refuse_replacing(output: Path, *inputs: Path) -> None:
    """Refuse to write over what a command reads: over itself, a folder that holds it, or a file in a folder of it.

    Names do not count: a link to it is it.

    Raises:
        UsageError: naming what would be lost.
    """
    if not output.exists():
        return
    for path in filter(Path.exists, inputs):
        inside = output.is_file() and _holds(path, output.resolve().parent.parent)
        if inside or _holds(output, path):
            raise UsageError(f"{output}: would replace {path}, which is read; choose another name for what is written")


def _holds(place: Path, path: Path) -> bool:
    return any(other.samefile(place) for other in (path, *path.resolve().parents))


def refuse_suffix(output: Path, suffixes: tuple[str, ...], option: str = "--output") -> None:
    """Refuse the name of another kind of file; a folder of that name is `result_file`'s to refuse.

    Raises:
        UsageError: naming the suffixes that are wanted.
    """
    if output.suffix not in suffixes and not output.is_dir():
        raise UsageError(f"{option} {output}: wanted a name that ends in {' or '.join(suffixes)}; choose such a name")


@contextmanager
def writing(output: Path, option: str = "--output") -> Iterator[None]:
    """What the system says while a result is written, as one line with the name that the user gave.

    Raises:
        OutputError: the place is full or not writable.
    """
    try:
        yield
    except BrokenPipeError:  # of the terminal
        raise
    except OSError as error:
        raise OutputError(f"{output}: cannot be written ({_reason(error)}); choose another {option}") from error


def _reason(error: OSError) -> str:
    """The system's words; `shutil.copytree` has a list of source, target and words in their place."""
    if isinstance(error, shutil.Error):
        return str(error.args[0][0][2])
    return str(error.strerror)


@contextmanager
def locked(output: Path, named: Path | None = None, *, inside: bool = False) -> Iterator[None]:
    """Keep other commands out of a place until the end; else both would say that their result is there.

    Args:
        output: a file or folder to come, or one that is there; its parent is there.
        named: what errors call it; None as it is.
        inside: the lock lies in it and not beside it: a folder that others may write to, one after the other.

    Raises:
        OutputError: another command writes there, or the lock cannot be written.
    """
    named = named or output
    lock = Lock(output / LOCK if inside else output.with_name(f".{output.name}.lock"), named)
    try:
        with writing(named):
            lock.take()
        yield
    finally:
        lock.release()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for the time of the work, where the system has its temporary files: not where the result goes.

    Raises:
        OutputError: that place is full or not writable.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="mdexport-") as folder:
            yield Path(folder)
    except BrokenPipeError:
        raise
    except OSError as error:
        place = tempfile.tempdir or "temporary files"  # not known where none of the system's places will do
        raise OutputError(
            f"{place}: cannot hold the graph while it is worked on ({error.strerror}); make room there, or set TMPDIR "
            "to another folder"
        ) from error
