"""All files of one run: written together, named together, or not there."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from mdrun.errors import MdrunError
from mdrun.frames import Result
from mdrun.sinks.base import Overflow, Sink, SinkWorker
from mdrun.sinks.files import OutputFolder, PartialFile

SUMMARY = "summary.json"


class Outputs:
    """The sinks of one run and their folder.

    Nothing has its final name before `commit`; older files of the same names stay until then.
    """

    def __init__(self, folder: Path, sinks: list[Sink], policy: Overflow) -> None:
        """Make the folder and start one thread a sink.

        Raises:
            OutputError: the folder cannot be written.
        """
        self._folder = OutputFolder(folder)
        self._folder.create()
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
        """Give every file its name and write the summary last, so that it stands for a complete run."""
        paths = [path for worker in self._workers if (path := worker.sink.commit()) is not None]
        file = PartialFile(self._folder.path / SUMMARY)
        paths.append(file.path)
        files = [path.name for path in paths]
        file.part.write_text(json.dumps(summary | {"files": files}, indent=2) + "\n", encoding="utf-8")
        file.commit()
        return paths

    def discard(self) -> None:
        """Remove everything this run has written and not named yet."""
        for worker in self._workers:
            with suppress(OSError, MdrunError):  # the failure that led here is the one to report
                worker.discard()
        self._folder.remove_if_empty()
