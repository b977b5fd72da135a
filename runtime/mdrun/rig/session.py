"""One rig at work: pairs in, results out.

with Session(config) as session:
    for result in session:
        ...
"""

from __future__ import annotations

import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mdrun.engine import Engine
from mdrun.errors import MdrunError, SourceTimeoutError, from_code
from mdrun.frames import (
    Classification,
    Detections,
    FramePair,
    Modality,
    Notice,
    Provenance,
    Result,
    Segmentation,
    SourceState,
    Verdict,
)
from mdrun.monitor import CameraStatus, Monitor
from mdrun.postprocess import counted
from mdrun.rig.active import ENERGY, ActiveEngine
from mdrun.rig.cameras import OpenFeed, open_feed
from mdrun.rig.config import NO_HURRY_MS, RigConfig
from mdrun.rig.engines import EnginePool, SharedEngine
from mdrun.rig.gate import EnergyGate
from mdrun.rig.ladder import Ladder, check_cameras, name_rungs
from mdrun.rig.pairs import LivePairs, why_absent
from mdrun.rig.thermal import ThermalPath
from mdrun.sources.base import NS_PER_MS
from mdrun.tracking import Tracker
from mdrun.tracking.lines import event_to_dict

if TYPE_CHECKING:
    from mdrun.registration.drift import DriftMonitor, DriftReading

START_S = 15.0  # a camera that needs longer to its first image is missing; RTSP over a bad link needs 4
UP = {SourceState.LIVE, SourceState.ENDED}
DOWN = {SourceState.LOST, SourceState.FAILED}
DEGRADED = "--start degraded (in a rig file `start: degraded`)"
AWAY = DOWN | {SourceState.CONNECTING}


class Session:
    """A rig from its cameras to its results. Iterate in one thread; `monitor` may be read from any.

    Attributes:
        config: the rig file.
        monitor: what it is doing right now.
        engines: its ladder.
        realtime: what is late is dropped; False: a recording at its own pace.
        on_notice: told about camera states, shutter events, engine switches and alarms; set it before iterating.
    """

    def __init__(
        self,
        config: RigConfig,
        *,
        pool: EnginePool | None = None,
        opened: OpenFeed | None = None,
    ) -> None:
        """Load the engines and open the cameras.

        Args:
            config: the rig.
            pool: engines that several rigs share; None loads the rig's own.
            opened: events in the place of the configured cameras.

        Raises:
            MdrunError: an engine, a calibration or a recording cannot be used.
        """
        self.config = config
        self.on_notice: Callable[[Notice], None] | None = None
        self._own_pool = None if pool is not None else EnginePool()
        self._stopped = False
        self._drift: DriftMonitor | None = None
        self._waited = False
        names = {m: found[0] for m in Modality if (found := config.camera(m)) is not None}
        self.monitor = Monitor(config.rig, names)
        opened = open_feed(config) if opened is None else opened
        self._feed = opened.feed
        self.realtime = opened.realtime
        weakref.finalize(self, self._feed.close)  # at the end of a program that forgets to (see `command.leave`)
        try:
            self._feed.start()  # cameras connect while engines load
            self.engines = (pool or self._own_pool or EnginePool()).load(config.ladder)
            self._set_up(opened)
        except BaseException:
            self.close()
            raise

    def _set_up(self, opened: OpenFeed) -> None:
        config = self.config
        check_cameras(config, [shared.manifest for shared in self.engines])
        first = self.engines[0].manifest
        self._thermal = ThermalPath(
            config,
            [shared.manifest for shared in self.engines],
            shutter_told=opened.shutter_told,
            compressed=opened.compressed,
        )
        self.monitor.set_registration(self._thermal.describe())
        pairing = config.pairing
        if opened.lookahead and "wait_ms" not in pairing.model_fields_set:
            pairing = pairing.model_copy(update={"wait_ms": NO_HURRY_MS})
        self.pairs = LivePairs(
            self._feed,
            pairing,
            self.monitor,
            chain=self._thermal.chain,
            realtime=self.realtime,
            forgiving=self.realtime and config.start == "degraded",
            tell=self.tell,
            offsets_ns=opened.offsets_ns,
        )
        needs = [frozenset(shared.manifest.needs) for shared in self.engines]
        self._ladder = Ladder(needs, config.ladder.back_after, round(config.pairing.age_ms * NS_PER_MS))
        self._gates = [EnergyGate(shared.manifest, config.ladder.strange == "fallback") for shared in self.engines]
        own = [shared.manifest.thresholds.display for shared in self.engines]
        self._displays = [config.display(rung, score) for rung, score in enumerate(own)]
        self._tracker = Tracker(config.tracking, first.classes, display=self.display) if self._tracks() else None
        self._names = name_rungs([shared.manifest for shared in self.engines])
        self.monitor.engines = [
            describe_engine(shared.engine, name) for shared, name in zip(self.engines, self._names, strict=True)
        ]
        self._active = ActiveEngine(self.monitor, self._names, self.tell, back_after=config.ladder.back_after)
        self._drift = self._thermal.watch_drift(self._tell_drift)
        if self._drift is not None:
            weakref.finalize(self, self._drift.close)

    def __iter__(self) -> Iterator[Result]:
        """Results until the cameras end or `stop` is called.

        Raises:
            SourceError: a camera is not there at the start (`wait_for_cameras`); or a recording is damaged.
            DataError: images that the engine cannot take.
        """
        self.wait_for_cameras()
        while not self._stopped and not self.pairs.ended:
            started = perf_counter_ns()
            pair = self.pairs.poll()
            if pair is None:
                self._look_for_visible()
                continue
            result = self._process(pair, started)
            if result is not None:
                yield result

    @property
    def display(self) -> float:
        """Lowest score of the preferred engine that is drawn, counted and begins a track."""
        return self._displays[0]

    def stop(self) -> None:
        """Let the iteration end with the pair in hand; from any thread."""
        self._stopped = True

    def close(self) -> None:
        """Release cameras and engines; twice does no harm."""
        if self._drift is not None:
            self._drift.close()
        self._feed.close()
        if self._own_pool is not None:
            self._own_pool.close()

    def now_ns(self) -> int:
        """The time on the clock of the frames."""
        return self._feed.now_ns()

    def wall_ns(self, at_ns: int) -> int | None:
        """A time on the clock of the frames as one since 1970; None where the recording does not know."""
        offset_ns = self._feed.wall_offset_ns()
        return None if offset_ns is None else at_ns + offset_ns

    def tell(self, notice: Notice) -> None:
        """Keep a notice, and hand it on."""
        notice = replace(notice, wall_ns=self.wall_ns(notice.at_ns))
        self.monitor.add_notice(notice)
        if self.on_notice is not None:
            self.on_notice(notice)

    def finish(self) -> None:
        """End every track, told as notices: no result follows that could carry the events."""
        if self._tracker is None:
            return
        for event in self._tracker.finish(self._feed.now_ns()):
            self.tell(Notice("track", self.config.rig, event.at_ns, {"event": event_to_dict(event)}))

    def set_registration(self, path: Path) -> None:
        """Take another calibration file from the next pair on.

        Raises:
            CalibrationError: it cannot be used.
        """
        self._thermal.load_registration(path)
        if self._drift is not None:
            self._drift.restart()
        found = self._thermal.describe()
        self.monitor.set_registration(found | {"drift": None})
        data = {"file": str(path), "mapping": found["kind"], "residual_px": found["residual_px"]}
        self.tell(Notice("registration", self.config.rig, self._feed.now_ns(), data))

    def check(self) -> None:
        """Hold the rig to its invariant: every captured visible frame is a result, a counted drop, or waits.

        Raises:
            ValueError: one is in neither or in both.
        """
        if missing := self._unaccounted():
            captured = self.pairs.captured_visible
            raise ValueError(f"{captured} visible frames captured, {captured - missing} accounted for")

    def give_up(self) -> None:
        """Count the pair in hand as a drop, in the place of `check`: its engine has not come back."""
        self.monitor.add_drop("stopped", self._unaccounted())

    def _unaccounted(self) -> int:
        self.pairs.finish()
        return self.pairs.captured_visible - self.monitor.results - self.monitor.drops.total()

    def wait_for_cameras(self) -> None:
        """Wait for the first images; those that came while the engines were loading are too old. Once.

        Raises:
            SourceError: with `start: require`, a camera that is not there.
        """
        if self._waited:
            return
        self._waited = True
        wanted = list(self.monitor.cameras) if self.config.start == "require" else []
        end = time.monotonic() + START_S
        while self.realtime and not self._stopped and not self._feed.ended:
            states = {modality: self.monitor.cameras[modality] for modality in wanted}
            if all(camera.state in UP and camera.captured for camera in states.values()):
                break
            for modality, camera in states.items():
                if camera.state in DOWN:
                    raise _missing(modality, camera)
            if time.monotonic() > end:
                late = [camera.name for camera in states.values() if not camera.captured]
                raise SourceTimeoutError(
                    f"{', '.join(late)}: no image within {START_S:.0f} s; check it; {DEGRADED} goes on without it"
                )
            self.pairs.watch()

    def _look_for_visible(self) -> None:
        """Every engine needs a visible image: while that camera is away, none can run."""
        camera = self.monitor.cameras[Modality.VISIBLE]
        if camera.state not in AWAY:
            return
        reason = f"visible_{why_absent(camera.state, seen=camera.captured > 0)}"
        if self._active.stop(reason, self._feed.now_ns(), down=camera.state in DOWN):
            self._ladder.stop()

    def _process(self, pair: FramePair, started: int) -> Result | None:
        """The result of one pair; None for a counted drop."""
        pair = self._with_fitting_thermal(pair)
        why = f"thermal_{pair.reason or 'missing'}"
        if self.pairs.refuses(pair):
            if not self._ladder.passes(pair):
                self._ladder.stop()
                self._active.show(None, why, pair.visible.captured_ns)
            self.monitor.add_drop(why)
            return None
        choice = self._ladder.choose(pair)
        if choice.rung is None:
            if not choice.passing:
                self._active.show(None, choice.reason, pair.visible.captured_ns)
            self.monitor.add_drop(why)
            return None
        stages = {"pair": (perf_counter_ns() - started) / 1e6}
        result = self._run(pair, choice.rung, choice.reason, stages)
        if result.verdict is Verdict.FALLBACK:
            result = self._fall_back(result, stages)
        if not choice.passing:
            self._active.show(result.rung, result.rung_reason, pair.visible.captured_ns)
        result = self._track(result)
        if self.realtime:
            result = replace(result, produced_ns=self._feed.now_ns())
        self._count(result)
        self._watch_drift(result.pair)
        return result

    def _with_fitting_thermal(self, pair: FramePair) -> FramePair:
        """The pair, without a thermal image of other proportions than the calibration's."""
        if pair.thermal is None:
            return pair
        try:
            self._thermal.check(pair)
        except MdrunError as error:
            self.pairs.refuse_thermal(pair.thermal, error)
            return FramePair(pair.sequence, pair.visible, None, Provenance.ABSENT, "failed")
        return pair

    def _watch_drift(self, pair: FramePair) -> None:
        if self._drift is None or pair.thermal is None or pair.provenance is not Provenance.MEASURED:
            return
        raw = pair.thermal.image if pair.thermal.unaligned is None else pair.thermal.unaligned
        visible, aligned, at_ns = pair.visible.image, pair.thermal.image, pair.visible.captured_ns
        taken = self._drift.offer(visible, aligned, at_ns, pixels_across=raw.shape[1])
        if taken and (reading := self._drift.reading()) is not None:
            self.monitor.set_registration({"drift": describe_drift(reading)})

    def _fall_back(self, strange: Result, stages: dict[str, float]) -> Result:
        """What the next engine that can run says; where there is none, the result is flagged."""
        below = self._ladder.next_able(strange.rung, strange.pair)
        if below is None:
            return replace(strange, verdict=Verdict.FLAG)
        return replace(self._run(strange.pair, below, ENERGY, stages), verdict=Verdict.FALLBACK, energy=strange.energy)

    def _run(self, pair: FramePair, rung: int, reason: str, stages: dict[str, float]) -> Result:
        shared = self.engines[rung]
        before = perf_counter_ns()
        used = "thermal" in shared.manifest.inputs
        aligned = self._thermal.align(pair)
        stages = stages | {"align": (perf_counter_ns() - before) / 1e6}
        thermal = None if aligned.thermal is None or not used else aligned.thermal.image
        found, timed = shared.run(pair.visible.image, thermal)
        energy = None if isinstance(found, Detections) else found.energy
        detections = found if isinstance(found, Detections) else None
        return Result(
            aligned,
            self._names[rung],
            shared.manifest.task,
            detections=detections,
            energy=energy,
            stages_ms=stages | timed,
            segmentation=found if isinstance(found, Segmentation) else None,
            classification=found if isinstance(found, Classification) else None,
            rig=self.config.rig,
            thermal_provenance=_provenance(shared, pair),
            rung=rung,
            rung_reason=reason,
            verdict=self._gates[rung].judge(energy),
            celsius=None if detections is None else self._thermal.celsius(aligned, detections.boxes_xyxy),
            display=self._displays[rung],
            wall_ns=self.wall_ns(pair.visible.captured_ns),
        )

    def _track(self, result: Result) -> Result:
        if self._tracker is None:
            return result
        before = perf_counter_ns()
        result = self._tracker.update(result)
        return replace(result, stages_ms=result.stages_ms | {"track": (perf_counter_ns() - before) / 1e6})

    def _tracks(self) -> bool:
        return self.config.tracking.enabled and self.engines[0].manifest.task == "detect"

    def _count(self, result: Result) -> None:
        classes = self.engines[result.rung].manifest.classes
        objects = Counter(classes[index] for index in counted(result, self._displays[result.rung]))
        self.monitor.add_result(result, objects)

    def _tell_drift(self, reading: DriftReading) -> None:
        data = describe_drift(reading)
        self.monitor.set_registration({"drift": data})
        self.tell(Notice("drift", self.config.rig, reading.at_ns, data))

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def describe_engine(engine: Engine, name: str) -> dict[str, Any]:
    """An engine of the ladder, by its name there, as pages and metrics show it."""
    manifest = engine.manifest
    return {
        "name": name,
        "task": manifest.task,
        "needs": list(manifest.needs),
        "precision": manifest.origin.precision or "",
        "backend": engine.backend,
        "backend_reason": engine.backend_reason,
        "device": engine.device,
        "digest": manifest.digest(),
    }


def describe_drift(reading: DriftReading) -> dict[str, Any]:
    """A look at the registration as pages and notices show it; pixels of the thermal image."""
    return {
        "shift_px": round(reading.shift_px, 2) if reading.known else None,
        "confidence": round(reading.confidence, 3),
        "alarm": reading.alarm,
    }


def _provenance(shared: SharedEngine, pair: FramePair) -> Provenance:
    """Of the thermal input as this engine got it."""
    if "thermal" in shared.manifest.inputs:
        return pair.provenance
    return Provenance.HALLUCINATED if "thermal" in shared.manifest.hallucinates else Provenance.ABSENT


def _missing(modality: Modality, camera: CameraStatus) -> MdrunError:
    """A camera that is not there at the start, and how to go on nevertheless."""
    way_out = f"; {DEGRADED} " + ("waits for it" if modality is Modality.VISIBLE else "runs without it")
    if modality is Modality.VISIBLE and camera.state is SourceState.FAILED:
        way_out = ""  # waiting does not help
    return from_code(camera.code or SourceTimeoutError.code, f"{camera.message or camera.name}{way_out}")
