"""Output files that are whole or not there."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable
from itertools import count
from pathlib import Path

from mdrun.errors import OutputError

LOCK = ".mdrun.lock"
OLDER = ".older.part"  # end of the name that a complete folder has while another takes its place


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class PartialFile:
    """A file that is written beside its final place and takes its name when it is complete.

    Attributes:
        path: final path.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
        self._discarded = False

    @property
    def part(self) -> Path:
        """Where it is written until then.

        Same folder, so that the rename is atomic, same suffix, and a name of its own, so that no other program writes
        the same one.

        Raises:
            OutputError: it was discarded; a thread that comes late must not make it again.
        """
        if self._discarded:
            raise OutputError(f"{self.path}: was discarded before it was complete")
        return self._part

    def commit(self) -> Path | None:
        """Give the file its final name, over an older one; None where nothing was written.

        Raises:
            OutputError: the rename failed.
        """
        if not self.part.exists():
            return None
        try:
            return self.part.replace(self.path)
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be replaced ({error.strerror}); choose another --output") from error

    def discard(self) -> None:
        """Leave nothing half-written behind; an older complete file stays."""
        self._discarded = True
        self._part.unlink(missing_ok=True)


class PartialFolder(PartialFile):
    """The same for a folder of files: they are written into `part`, and one rename names all of them at once."""

    def commit(self) -> Path | None:
        """Give the folder its final name, in the place of an older one; None where nothing was written.

        Raises:
            OutputError: the rename failed; the older folder is where it was.
        """
        if not self.part.exists():
            return None
        older = self._part.with_name(f"{self._part.stem}{OLDER}")  # no rename goes over a folder with files
        try:
            if self.path.exists():
                self.path.rename(older)
            self._part.rename(self.path)
        except BaseException as error:  # a signal, too
            if older.exists() and not self.path.exists():
                older.rename(self.path)
            if not isinstance(error, OSError):
                raise
            raise OutputError(f"{self.path}: cannot be replaced ({error.strerror}); choose another --output") from error
        shutil.rmtree(older, ignore_errors=True)
        return self.path

    def discard(self) -> None:
        """Leave nothing half-written behind; an older complete folder stays."""
        self._discarded = True
        shutil.rmtree(self._part, ignore_errors=True)


def check_place(path: Path, *, folder: bool = False) -> None:
    """Refuse a place where nothing can be written, before the work and without making anything.

    Args:
        path: of a file to come, or one that is there.
        folder: it is one, or will be.

    Raises:
        OutputError: something else has the name, or there is no permission.
    """
    if path.exists() and path.is_dir() != folder:
        there, wanted = ("file", "folder") if folder else ("folder", "file")
        raise OutputError(f"{path}: is a {there}, wanted the name of a {wanted}; choose another --output")
    nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
    if nearest != path and not nearest.is_dir():
        raise OutputError(f"{path}: {nearest} is no folder; choose another --output")
    if not os.access(nearest, os.W_OK):
        raise OutputError(f"{path}: {nearest} cannot be written; choose another --output")


def set_aside(*paths: Path) -> list[tuple[Path, Path]]:
    """Files of an earlier run keep what is in them, under another name, all with one number: `results.1.jsonl`.

    Returns:
        Path before and now of each file that was renamed.

    Raises:
        OutputError: one cannot be renamed.
    """
    full = [path for path in paths if path.is_file() and path.stat().st_size]
    numbered = ([path.with_suffix(f".{n}{path.suffix}") for path in full] for n in count(1))
    free = next(names for names in numbered if not any(map(os.path.lexists, names)))
    try:
        for path, name in zip(full, free, strict=True):
            path.rename(name)
    except OSError as error:
        raise OutputError(f"{error.filename}: cannot be renamed ({error.strerror}); choose another --output") from error
    return list(zip(full, free, strict=True))


class Lock:
    """Keeps other runs out of a place; the lock of a run that was killed is void."""

    def __init__(self, file: Path, place: Path) -> None:
        """`file` is there while the lock is held; `place` is what errors name."""
        self._file, self._place = file, place
        self._handle: int | None = None

    def take(self) -> None:
        """Lock it until `release`.

        Raises:
            OutputError: another run writes there.
        """
        while self._handle is None:
            handle = os.open(self._file, os.O_CREAT | os.O_RDWR, 0o644)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                raise OutputError(f"{self._place}: another run writes there; choose another --output") from None
            except OSError as error:  # a network file system without locks: then without
                if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                    os.close(handle)
                    raise
            if self._file.exists() and os.path.samestat(os.fstat(handle), self._file.stat()):
                self._handle = handle
            else:
                os.close(handle)  # the run before removed the file between our opening and locking it

    def release(self) -> None:
        """Let other runs in; without the lock it does nothing."""
        if self._handle is not None:
            self._file.unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = None


class OutputFolder:
    """The folder of one run. Removes the folders it made itself if nothing ends up in them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._made: list[Path] = []
        self._lock = Lock(path / LOCK, path)

    def create(self) -> None:
        """Make the folder and its parents.

        Raises:
            OutputError: a file is in the way, or the place is not writable.
        """
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / ".mdrun.part"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot write a folder there ({error.strerror}); choose another --output"
            ) from error
        self._made = missing

    def lock(self) -> None:
        """Keep other runs out of the folder until `unlock`.

        Raises:
            OutputError: another run writes there.
        """
        self._lock.take()

    def remove_leftovers(self, names: Iterable[str]) -> None:
        """Remove unfinished files of runs that were killed; only the holder of the lock may, for it runs alone.

        A complete folder that was moved away, and whose successor never took the name, gets it back.

        Raises:
            OutputError: that folder cannot be renamed.
        """
        for path in map(Path, names):
            final = self.path / path.name
            for left in self.path.glob(f".{path.stem}.*.part{path.suffix}"):
                if left.name.endswith(OLDER) and not os.path.lexists(final):
                    _give_back(left, final)
                elif left.is_dir():
                    shutil.rmtree(left)
                else:
                    left.unlink(missing_ok=True)

    def unlock(self) -> None:
        """Let other runs in; without a lock it does nothing."""
        self._lock.release()

    def refuse_folders(self, names: Iterable[str]) -> None:
        """Look for folders where files are to go, before the work and not after it.

        Raises:
            OutputError: naming the first.
        """
        for name in names:
            if (self.path / name).is_dir():
                raise OutputError(f"{self.path / name}: a folder is in the way of that file; choose another --output")

    def remove_if_empty(self) -> None:
        """Take back what `create` made, as far as it is empty."""
        for folder in self._made:
            if not folder.is_dir() or any(folder.iterdir()):
                return
            folder.rmdir()


def _give_back(left: Path, final: Path) -> None:
    """Rename what a killed run moved away."""
    try:
        left.rename(final)
    except OSError as error:
        raise OutputError(
            f"{left}: cannot be named {final.name} again ({error.strerror}); rename it yourself"
        ) from error
