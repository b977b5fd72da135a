"""Output files that are whole or not there."""

from __future__ import annotations

from pathlib import Path

from mdrun.errors import OutputError


class PartialFile:
    """A file that is written beside its final place and takes its name when it is complete.

    Attributes:
        path: final path.
        part: where it is written until then; same folder, so that the rename is atomic, and same suffix.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.with_name(f".{path.stem}.part{path.suffix}")

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
        self.part.unlink(missing_ok=True)


class OutputFolder:
    """The folder of one run. Removes the folders it made itself if nothing ends up in them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._made: list[Path] = []

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

    def remove_if_empty(self) -> None:
        """Take back what `create` made, as far as it is empty."""
        for folder in self._made:
            if not folder.is_dir() or any(folder.iterdir()):
                return
            folder.rmdir()
