"""Rigs from start to stop: sessions, sinks, signals and the summary."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from mdrun import logs
from mdrun.command import INTERNAL
from mdrun.errors import BackendError, OutputError
from mdrun.files import OutputFolder, PartialFile, set_aside
from mdrun.frames import Modality, Notice
from mdrun.rig.config import RigConfig
from mdrun.rig.engines import EnginePool
from mdrun.rig.environment import check_environment, expand
from mdrun.rig.session import Session
from mdrun.signals import StopRequest
from mdrun.sinks.base import Sink
from mdrun.sinks.context import SinkContext
from mdrun.sinks.dispatch import FINISH_S, Dispatch
from mdrun.sinks.scene import Look
from mdrun.sinks.uri import FILES, build_sink, is_folder, parse_output
from mdrun.statistics import SCHEMA_VERSION

SUMMARY = "summary.json"
LOOK_S = 0.05  # between two looks at a signal
START_GRACE_S = 0.5  # for a start that is nearly done
CLOSE_S = 2.0  # for cameras; their threads end with the process where they do not end by themselves
# After a signal a run has two seconds: the pair in hand has the first part, cameras and outputs what is left of END_S.
PAIR_S = 0.7
END_S = 1.7
STOP_S = 5.0  # a disk that has not answered by then never will
RECORDED_WAIT_S = 10.0  # a recording can wait for an output that is slow, but not for one that hangs
EARLIER = ("results.jsonl", "overlay.mp4", SUMMARY)  # what an earlier run left in its folder

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RigReport:
    """How one rig's run ended.

    Attributes:
        summary: the contents of summary.json.
        paths: files written.
    """

    summary: dict[str, Any]
    paths: list[Path]


class RigRun:
    """One rig with its sinks. `run` blocks until the cameras end or `stop`.

    Attributes:
        hangs: `run` has ended although an engine has not come back.
    """

    def __init__(
        self,
        config: RigConfig,
        pool: EnginePool,
        *,
        frames: int | None = None,
        overlay: bool = True,
    ) -> None:
        """Load, connect and open everything.

        Args:
            config: the rig.
            pool: engines, shared by the rigs of the process.
            frames: results after which the run ends; None for all.
            overlay: an output folder gets the video too.

        Raises:
            MdrunError: an engine, camera, calibration or output cannot be used.
        """
        self.hangs = False
        self._frames = frames
        self._asked: float | None = None  # `time.monotonic` of `stop`
        self._failure: BaseException | None = None
        self._began = time.monotonic()
        self._aside: list[tuple[Path, Path]] = []  # files of earlier runs: paths before and now
        self._made: list[OutputFolder] = []  # for files that are no run's folder
        self._folders = _open_folders(config)
        try:
            self.session = Session(config, pool=pool)
            self.session.on_notice = logs.log_notice
            try:
                self._open_sinks(config, overlay)
            except BaseException:
                self.session.close()
                raise
        except BaseException:
            self._take_back()
            raise

    def _open_sinks(self, config: RigConfig, overlay: bool) -> None:
        """Only once the cameras are there: a start that fails leaves an earlier run's files as they were."""
        self.session.wait_for_cameras()
        context = make_context(self.session)
        patience_s = 0.0 if self.session.realtime else RECORDED_WAIT_S
        sinks = _sinks(config, context, overlay)
        self.dispatch = Dispatch(
            sinks,
            self.session.monitor,
            on_notice=self._note,
            wait_s=patience_s,
            now_ns=self.session.now_ns,
            to_wall_ns=self.session.wall_ns,
        )
        self.session.on_notice = self._tell
        for path in (folder.path / name for folder in self._folders for name in EARLIER):
            self._aside += set_aside(path)
        self._made = _make_folders(config)
        self.dispatch.start()

    def run(self) -> RigReport:
        """Results to the sinks until the end; after `stop` an engine that hangs is not waited for.

        Raises:
            MdrunError: a camera that must be there is not, or an engine failed; what was written stays.
        """
        loop = threading.Thread(target=self._loop, name=f"loop-{self.session.config.rig}", daemon=True)
        loop.start()
        while loop.is_alive() and self._since_stop() < PAIR_S:
            loop.join(LOOK_S)
        paths = self._end()
        self.hangs = loop.is_alive()
        if self._failure is not None:
            raise self._failure
        if self.hangs:
            self._give_up()
        else:
            self.session.check()
        summary = summarise(self.session, time.monotonic() - self._began)
        paths += [_write_summary(folder.path, summary) for folder in self._folders]
        return RigReport(summary, paths)

    def _loop(self) -> None:
        try:
            for number, result in enumerate(self.session, start=1):
                self.dispatch.offer(result)
                if number == self._frames:
                    break
        except BaseException as error:  # noqa: BLE001, RUF100  # raised again by `run`
            self._failure = error

    def _since_stop(self) -> float:
        return 0.0 if self._asked is None else time.monotonic() - self._asked

    def _give_up(self) -> None:
        rig, shared = self.session.config.rig, self.session.engines[self.session.monitor.rung or 0]
        message = f"engine {shared.manifest.engine_name} has not come back; the pair that it had is dropped"
        _log.error(message, extra={"rig": rig, "code": BackendError.code})
        self.session.give_up()

    def _end(self) -> list[Path]:
        """Tracks, cameras, sinks: side by side, as each may hang for as long as it is given."""
        left_s = END_S - self._since_stop()
        end = time.monotonic() + left_s
        self.session.finish()
        closer = threading.Thread(target=self.session.close, name="close", daemon=True)
        closer.start()
        try:
            return self.dispatch.finish(min(FINISH_S, left_s))
        finally:
            closer.join(CLOSE_S if self._asked is None else max(0.0, end - time.monotonic()))
            for folder in self._folders:
                folder.unlock()

    def discard(self) -> None:
        """Let go of everything before `run`: another rig of the process cannot start."""
        self.session.close()
        self.dispatch.discard()
        self._take_back()

    def _take_back(self) -> None:
        """Files of earlier runs get their names again, and folders that were made for nothing go."""
        for before, now in self._aside:
            if not before.exists():
                now.rename(before)
        _release([*self._folders, *reversed(self._made)])  # the inner ones first

    def stop(self) -> None:
        """Let `run` end; from any thread, and as often as one likes."""
        self._asked = self._asked or time.monotonic()
        self.session.stop()

    def _tell(self, notice: Notice) -> None:
        """A notice of the loop, which the monitor has already: to the log and to every output."""
        logs.log_notice(notice)
        self.dispatch.notify(notice)

    def _note(self, notice: Notice) -> None:
        """A notice about an output; the dispatch has told the others."""
        logs.log_notice(notice)
        self.session.monitor.add_notice(notice)


def run_rigs(
    configs: Sequence[RigConfig], *, frames: int | None = None, overlay: bool = True
) -> tuple[list[RigReport], int]:
    """Run rigs until their cameras end, SIGINT or SIGTERM; returns their reports and the exit code.

    Raises:
        MdrunError: the first failure of any rig; the others are stopped and finish their files.
    """
    check_environment(configs)
    with EnginePool() as pool, StopRequest(lambda: None) as stop:
        runs = _start_all(configs, pool, frames, overlay, stop)
        reports = _run_all(runs, stop)
    return reports, stop.exit_code


def _start_all(
    configs: Sequence[RigConfig], pool: EnginePool, frames: int | None, overlay: bool, stop: StopRequest
) -> list[RigRun]:
    """Load and connect on a thread, so that a signal meanwhile ends the process in time."""
    runs: list[RigRun] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for config in configs:
                runs.append(RigRun(config, pool, frames=frames, overlay=overlay))  # noqa: PERF401  # kept if one fails
        except BaseException as error:  # noqa: BLE001, RUF100  # raised again below
            failures.append(error)

    builder = threading.Thread(target=work, name="start", daemon=True)
    builder.start()
    while builder.is_alive():
        builder.join(LOOK_S)
        if stop.signal is not None:
            builder.join(START_GRACE_S)
            if builder.is_alive():  # an engine that loads cannot be interrupted, and nothing has been written yet
                os._exit(stop.exit_code)
    if failures:
        for run in runs:
            run.discard()
        raise failures[0]
    return runs


def _run_all(runs: list[RigRun], stop: StopRequest) -> list[RigReport]:
    """A thread a rig; this one, the main one, looks at signals."""
    reports: dict[int, RigReport] = {}
    failures: list[BaseException] = []

    def work(index: int) -> None:
        try:
            reports[index] = runs[index].run()
        except BaseException as error:  # noqa: BLE001, RUF100  # raised again below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,), name=f"rig-{i}", daemon=True) for i in range(len(runs))]
    for thread in threads:
        thread.start()
    asked: float | None = None
    while living := [thread for thread in threads if thread.is_alive()]:
        living[0].join(LOOK_S)
        if stop.signal is not None or failures:
            asked = asked or time.monotonic()
            for run in runs:
                run.stop()
            if time.monotonic() - asked > STOP_S:
                os._exit(stop.exit_code or INTERNAL)
    if any(run.hangs for run in runs):
        _leave(stop, failures)
    if failures:
        raise failures[0]
    return [reports[index] for index in range(len(runs))]


def _leave(stop: StopRequest, failures: list[BaseException]) -> NoReturn:
    """End the process: closing an engine that hangs, or unloading its library, would hang too."""
    for error in failures:
        _log.error(str(error), extra={"code": getattr(error, "code", "")})
    logs.close()
    os._exit(stop.exit_code or getattr(failures[0], "exit_code", INTERNAL))


def make_context(session: Session) -> SinkContext:
    """What the sinks of a session get to know."""
    first = session.engines[0].manifest
    thermal_used = any("thermal" in shared.manifest.inputs for shared in session.engines)
    look = Look(first.engine_name, first.classes, session.display, thermal_used, first.task)
    return SinkContext(
        session.config.rig,
        first.classes,
        look,
        session.monitor,
        timed=True,
        thermal_used=thermal_used,
        commands={"set_registration": session.set_registration},
    )


def summarise(session: Session, elapsed_s: float) -> dict[str, Any]:
    """The contents of summary.json; docs/results.md lists the keys."""
    status = session.monitor.snapshot()
    for key in ("recent", "notices", "uptime_s", "state"):
        status.pop(key)
    return {
        "schema_version": SCHEMA_VERSION,
        **status,
        "captured": {
            Modality.VISIBLE.value: session.pairs.captured_visible,
            Modality.THERMAL.value: session.pairs.captured_thermal,
        },
        "elapsed_s": round(elapsed_s, 3),
        "fps": round(session.monitor.results / elapsed_s, 2) if elapsed_s > 0 else None,
    }


def _open_folders(config: RigConfig) -> list[OutputFolder]:
    """The run folders of a rig, made and held against other runs.

    Raises:
        OutputError: one cannot be written, or another run writes there.
    """
    folders = [OutputFolder(Path(text)) for text in config.outputs if is_folder(text)]
    try:
        for folder in folders:
            folder.create()
            folder.lock()
    except BaseException:
        _release(folders)
        raise
    return folders


def _make_folders(config: RigConfig) -> list[OutputFolder]:
    """Folders that single files go into and that are not there yet; one that cannot be made is told by its output."""
    uris = [parse_output(expand(text, "outputs")) for text in config.outputs if not is_folder(text)]
    places = [Path(uri.path) if uri.kind == "hls" else Path(uri.path).parent for uri in uris if uri.kind in FILES]
    folders = [OutputFolder(place) for place in places if not place.exists()]
    for folder in folders:
        with suppress(OutputError):
            folder.create()
    return folders


def _release(folders: Sequence[OutputFolder]) -> None:
    """Let other runs in, and take back what was made for nothing."""
    for folder in folders:
        folder.unlock()
        folder.remove_if_empty()


def _sinks(config: RigConfig, context: SinkContext, overlay: bool) -> list[Sink]:
    texts = []
    for text in config.outputs:
        if is_folder(text):
            texts += [f"jsonl:{text}/results.jsonl"] + ([f"video:{text}/overlay.mp4"] if overlay else [])
        else:
            texts.append(expand(text, "outputs"))
    return [build_sink(text, context, Path()) for text in texts]


def _write_summary(folder: Path, summary: dict[str, Any]) -> Path:
    file = PartialFile(folder / SUMMARY)
    file.part.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    file.commit()
    return folder / SUMMARY
