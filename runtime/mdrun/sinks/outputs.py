"""All files of one run: written together, named together, or not there."""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from mdrun.errors import MdrunError, OutputError
from mdrun.files import OutputFolder, PartialFile
from mdrun.frames import Result
from mdrun.sinks.base import FileSink, Overflow, SinkWorker
from mdrun.sinks.labels import LABELS, NAME

SUMMARY = "summary.json"
LATE_OPEN_S = 0.1
RESULTS = ("results.jsonl", "overlay.mp4", "overlay.png")  # what any run may have left in its folder


class Outputs:
    """The sinks of one run and their folder.

    Nothing has its final name before `commit`; older files of the same names stay until then.
    """

    def __init__(self, folder: Path, sinks: list[FileSink], policy: Overflow) -> None:
        """Make the folder and start one thread a sink.

        Raises:
            OutputError: the folder cannot be written, another run writes there, or something else is in the way.
        """
        self._folder = OutputFolder(folder)
        self._folder.create()
        try:
            self._folder.refuse_folders((*RESULTS, SUMMARY))
            self._folder.lock()
            self._folder.remove_leftovers((*RESULTS, LABELS, SUMMARY))  # may give an earlier run its label maps back
            self._old_labels = _holds_labels_of_a_run(folder)
            if any(sink.name == LABELS for sink in sinks) and not self._old_labels:
                _refuse_foreign_labels(folder)
        except OutputError:
            self._folder.unlock()
            self._folder.remove_if_empty()
            raise
        self._summary = PartialFile(folder / SUMMARY)
        self._workers = [SinkWorker(sink, policy) for sink in sinks]

    def offer(self, result: Result) -> None:
        """Hand one result to every sink.

        Raises:
            MdrunError: a sink failed.
        """
        for worker in self._workers:
            worker.offer(result)

    def finish(self) -> dict[str, int]:
        """Complete every file under its temporary name; returns the results each sink skipped, by file.

        Raises:
            MdrunError: a sink failed.
        """
        for worker in self._workers:
            worker.finish()
        return {worker.sink.name: worker.drops for worker in self._workers if worker.drops}

    def commit(self, summary: dict[str, Any]) -> list[Path]:
        """Give every file its name, the summary last, so that it stands for a complete run.

        Files of an earlier run that this one did not write are removed: they would belong to no summary.
        """
        sinks = [worker.sink for worker in self._workers if worker.sink.written]
        files = [*(sink.name for sink in sinks), SUMMARY]
        self._summary.part.write_text(json.dumps(summary | {"files": files}, indent=2) + "\n", encoding="utf-8")
        for sink in sinks:
            sink.commit()
        for stale in set(RESULTS) - set(files):
            (self._folder.path / stale).unlink(missing_ok=True)
        if self._old_labels and LABELS not in files:
            shutil.rmtree(self._folder.path / LABELS, ignore_errors=True)
        self._summary.commit()
        self._folder.unlock()
        return [self._folder.path / name for name in files]

    def discard(self) -> None:
        """Remove everything this run has written and not named yet."""
        for worker in self._workers:
            with suppress(OSError, MdrunError):  # the failure that led here is the one to report
                worker.discard()
        self._remove()

    def abort(self) -> None:
        """Remove the same from a signal handler, where no thread can be waited for; the process ends behind it."""
        for wait_s in (0.0, LATE_OPEN_S):  # once more, for a thread that was just opening its file
            time.sleep(wait_s)
            for worker in self._workers:
                with suppress(OSError):
                    worker.sink.remove()
        self._remove()

    def _remove(self) -> None:
        with suppress(OSError):
            self._summary.discard()
        with suppress(OSError):
            self._folder.unlock()
            self._folder.remove_if_empty()


def _holds_labels_of_a_run(folder: Path) -> bool:
    """The folder has label maps, an earlier run's summary says that they are its own, and nothing else lies there."""
    if (folder / LABELS).is_symlink():
        return False
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        with os.scandir(folder / LABELS) as entries:
            return LABELS in summary["files"] and all(NAME.fullmatch(entry.name) for entry in entries)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _refuse_foreign_labels(folder: Path) -> None:
    """Never replace what no run has written: many data sets keep their truth in a folder of this name.

    Raises:
        OutputError: a file or folder is there.
    """
    path = folder / LABELS
    if path.exists() or path.is_symlink():
        raise OutputError(
            f"{path}: holds what no run wrote, and is in the way of the label maps; "
            "choose another --output, or give --no-labels"
        )
