"""Cameras in, results out: sources → pairs → engine → sinks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import Any, Protocol

from mdrun.engine import Engine, check_scores
from mdrun.errors import DataError, UsageError
from mdrun.frames import Classification, Detections, FramePair, Result, Segmentation
from mdrun.pairing import PairLimits, PairStream
from mdrun.signals import StopRequest
from mdrun.sinks import FileSink, JsonlSink, LabelSink, Look, Overflow, SheetSink, VideoSink
from mdrun.sinks.labels import LABELS
from mdrun.sinks.outputs import Outputs
from mdrun.sources import Source
from mdrun.statistics import SCHEMA_VERSION, Statistics

RIG = "local"  # name of the pair of cameras, as long as no rig file gives one


class Progress(Protocol):
    """What is told about every pair, for example a bar on the terminal."""

    def __call__(self, pairs: int, /) -> None:
        """`pairs` more are done."""


@dataclass(frozen=True)
class RunOptions:
    """What a user may choose about a run.

    Attributes:
        limits: of pairing.
        frames: most visible frames to take; None for all.
        overlay: write the video and the contact sheet.
        labels: write the label maps of an engine that gives them.
        display: lowest score that is drawn and counted; None takes the manifest's.
        overflow: what happens when a sink cannot keep up.
        rig: name of the pair of cameras in results.
    """

    limits: PairLimits = field(default_factory=PairLimits)
    frames: int | None = None
    overlay: bool = True
    labels: bool = True
    display: float | None = None
    overflow: Overflow = Overflow.WAIT
    rig: str = RIG


@dataclass(frozen=True)
class RunReport:
    """Outcome of a run.

    Attributes:
        summary: the contents of summary.json.
        paths: files written.
        exit_code: 0, or 128 + signal where one ended the run.
    """

    summary: dict[str, Any]
    paths: list[Path]
    exit_code: int


def run(
    engine: Engine,
    visible: Source,
    thermal: Source | None,
    output: Path,
    *,
    options: RunOptions | None = None,
    progress: Progress | None = None,
) -> RunReport:
    """Run an engine over opened sources and write results to a folder.

    On any error no file of this run is left; on SIGINT or SIGTERM the files hold everything up to then.

    Args:
        engine: loaded engine.
        visible: opened visible source.
        thermal: opened thermal source; None only for an engine that takes none.
        output: folder; files of an earlier run in it are replaced.
        options: choices; None for the defaults.
        progress: told about every pair.

    Raises:
        UsageError: the engine needs a thermal image and there is no thermal source, or it gives no scores and
            `display` is set.
        DataError: frames were captured, and every one was dropped.
        MdrunError: a source, an image or a file failed.
    """
    options = options or RunOptions()
    check_needs(engine, thermal is not None)
    check_display(engine, options)
    manifest = engine.manifest
    statistics = Statistics(manifest.classes, _display(engine, options), engine.takes_thermal, manifest.task)
    outputs = Outputs(output, _sinks(engine, output, options, visible.timed), options.overflow)
    with PairStream(visible, thermal, options.limits) as pairs, StopRequest(outputs.abort) as stop:
        try:
            started = perf_counter()
            for result in process(engine, islice(iter(pairs), options.frames), statistics, stop, progress):
                offered = perf_counter_ns()
                outputs.offer(result)
                statistics.add_stage("sinks", (perf_counter_ns() - offered) / 1e6)
            elapsed = perf_counter() - started
            statistics.check(pairs.captured_visible)
            if stop.signal is None:
                check_results(statistics)
            sink_drops = outputs.finish()
            summary = _summary(engine, pairs, statistics, elapsed, stop) | {"sink_drops": sink_drops}
            stop.hold = True
            paths = outputs.commit(summary)
        except BaseException:
            outputs.discard()
            raise
    return RunReport(summary, paths, stop.exit_code)


def process(
    engine: Engine,
    pairs: Iterator[FramePair],
    statistics: Statistics,
    stop: StopRequest,
    progress: Progress | None = None,
) -> Iterator[Result]:
    """Results of pairs, each counted; pairs without the thermal image the engine takes are counted drops.

    Nothing is ever put in the place of a missing image.
    """
    before = perf_counter_ns()
    for pair in pairs:
        waited_ms = (perf_counter_ns() - before) / 1e6
        if pair.thermal is None and engine.takes_thermal:
            statistics.add_drop(pair)
        else:
            thermal = None if pair.thermal is None else pair.thermal.image
            found, stages_ms = engine.run_timed(pair.visible.image, thermal)
            result = Result(
                pair,
                engine.manifest.engine_name,
                engine.manifest.task,
                detections=found if isinstance(found, Detections) else None,
                energy=None if isinstance(found, Detections) else found.energy,
                stages_ms={"pair": waited_ms} | stages_ms,
                segmentation=found if isinstance(found, Segmentation) else None,
                classification=found if isinstance(found, Classification) else None,
            )
            statistics.add_result(result)
            yield result
        if progress is not None:
            progress(1)
        if stop.signal is not None:
            return
        before = perf_counter_ns()


def check_needs(engine: Engine, has_thermal: bool) -> None:
    """Refuse to run an engine without the cameras it needs.

    Raises:
        UsageError: the engine needs a thermal image and there is none.
    """
    if engine.takes_thermal and not has_thermal:
        raise UsageError(
            f"engine {engine.manifest.engine_name} needs {' and '.join(engine.manifest.needs)}, --thermal is missing; "
            "give it, or choose an engine that needs visible only"
        )


def check_display(engine: Engine, options: RunOptions) -> None:
    """Refuse a display threshold for an engine without scores.

    Raises:
        UsageError: naming the flag.
    """
    if options.display is not None:
        check_scores(engine.manifest, "display threshold")


def check_results(statistics: Statistics) -> None:
    """Refuse a run in which not one captured frame came to a result.

    Raises:
        DataError: naming the causes and how often each was met.
    """
    if statistics.drops and not statistics.results:
        causes = ", ".join(f"{cause} {count}" for cause, count in sorted(statistics.drops.items()))
        raise DataError(
            f"every visible frame was dropped ({causes}): no thermal image fits in time; "
            "shift a source with ?offset_ms, correct its ?fps, or raise --max-age"
        )


def _display(engine: Engine, options: RunOptions) -> float:
    return engine.manifest.thresholds.display if options.display is None else options.display


def _sinks(engine: Engine, output: Path, options: RunOptions, timed: bool) -> list[FileSink]:
    manifest = engine.manifest
    classes, thermal_used = manifest.classes, engine.takes_thermal
    labels = options.labels and manifest.task == "segment"
    sinks: list[FileSink] = [JsonlSink(output / "results.jsonl", classes, options.rig, thermal_used, labels)]
    if labels:
        sinks.append(LabelSink(output / LABELS, classes))
    if options.overlay:
        look = Look(manifest.engine_name, classes, _display(engine, options), thermal_used, manifest.task)
        sinks += [VideoSink(output / "overlay.mp4", look, timed), SheetSink(output / "overlay.png", look, timed)]
    return sinks


def _summary(
    engine: Engine, pairs: PairStream, statistics: Statistics, elapsed_s: float, stop: StopRequest
) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "engine": engine.manifest.engine_name,
        "engine_digest": engine.manifest.digest(),
        "backend": engine.backend,
        "backend_reason": engine.backend_reason,
        "device": engine.device,
        "captured": {"visible": pairs.captured_visible, "thermal": pairs.captured_thermal},
        "thermal_unused": pairs.thermal_unused,
        **statistics.to_dict(),
        "elapsed_s": round(elapsed_s, 3),
        "fps": round(statistics.results / elapsed_s, 2) if elapsed_s > 0 else None,
        "stopped_by": stop.signal.name if stop.signal is not None else None,
    }
