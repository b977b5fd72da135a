"""A recording as the feed of a rig: `replay://RUN?drop_thermal=10s-14s&skew=40ms`.

The clock is the recording's: a replay never waits, so it runs as fast as the images decode, and always gives the same.
With `pace=live` it plays in real time on the machine's clock, as cameras would.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mdrun.errors import SourceError
from mdrun.feeds import Event, Feed
from mdrun.frames import Modality, SourceState
from mdrun.record.faults import apply_faults
from mdrun.record.faults.frozen import Telemetry
from mdrun.record.options import ReplayOptions, parse_options
from mdrun.record.plan import Change, Plan, Scene, Shot, Step, ordered
from mdrun.record.recording import Recording
from mdrun.record.states import OVER, Silence, retell_states
from mdrun.sources.live.reader import LEAST_STALL_S, STALL_PERIODS
from mdrun.sources.uri import SourceUri

NS_PER_S = 1_000_000_000
TIMEOUT_NS = 5 * NS_PER_S  # as `timeout_s` of a rig file


class ReplayFeed(Feed):
    """Plays a recording, faults and all.

    Attributes:
        live: in real time.
        shutter_told: the thermal camera itself says when its shutter is closed.
        compressed: its images had come through a video encoder before they were recorded.
    """

    def __init__(
        self, folder: Path, options: ReplayOptions | None = None, offsets_ns: Mapping[Modality, int] | None = None
    ) -> None:
        """Open a recording.

        Args:
            folder: of the recording.
            options: faults, part and pace.
            offsets_ns: the cameras wanted, and what is added to the capture times of each; None: all as recorded.

        Raises:
            SourceError: there is no recording, it is damaged, or holds nothing of what is wanted.
        """
        super().__init__()
        options = options or ReplayOptions()
        self.live = options.live
        self._recording = Recording(folder)
        try:
            self._offsets_ns = _offsets(self._recording, offsets_ns)
            scene = self._recording.scene(options.seed, options.telemetry)
            self._plan = [step for step in make_plan(scene, options) if step.modality in self._offsets_ns]
            if not any(isinstance(step, Shot) for step in self._plan):
                raise SourceError(f"{folder}: no frame is left to play; check from=, to= and the faults")
        except BaseException:
            self._recording.close()
            raise
        self.shutter_told = scene.telemetry
        self.compressed = self._recording.compressed(Modality.THERMAL)
        self._next = 0
        self._now_ns = self._plan[0].at_ns
        self._shift_ns = 0  # of a live pace: what is added to the recording's clock
        self._started = False
        self._closed = threading.Event()

    def start(self) -> None:
        """Start the clock."""
        if not self._started:
            self._started = True
            if self.live:
                self._shift_ns = time.monotonic_ns() - self._plan[0].at_ns

    def next(self, timeout_s: float) -> Event | None:
        """The next event; None where none comes within the timeout on the replay's own clock.

        Raises:
            SourceError: the recording is damaged from here on.
        """
        if self._next == len(self._plan) or self._closed.is_set():
            self.ended = True
            return None
        step = self._plan[self._next]
        if not self._reach(step.at_ns + self._shift_ns, round(timeout_s * NS_PER_S)):
            return None
        self._next += 1
        return self._event(step)

    def now_ns(self) -> int:
        """The machine's clock at a live pace; else of the last event, or of the end of the last wait."""
        return time.monotonic_ns() if self.live else self._now_ns

    def wall_offset_ns(self) -> int | None:
        """By the clocks at the recording, so that what it says happened then; None for recordings of files."""
        header = self._recording.header
        return header.wall_ns - header.monotonic_ns - self._shift_ns if header.live else None

    @property
    def busy(self) -> bool:
        """The next event is due."""
        return self._next < len(self._plan) and self._plan[self._next].at_ns + self._shift_ns <= self.now_ns()

    def close(self) -> None:
        """Close the recording; a `next` that waits in another thread returns."""
        self._closed.set()
        self._recording.close()
        self.ended = True

    def _reach(self, at_ns: int, timeout_ns: int) -> bool:
        """Let time pass until then, or for as long as the timeout; False: it is not yet then."""
        if self.live:
            wait_ns = at_ns - time.monotonic_ns()
            self._closed.wait(min(max(wait_ns, 0), timeout_ns) / NS_PER_S)
            return wait_ns <= timeout_ns and not self._closed.is_set()
        reached = at_ns <= self._now_ns + timeout_ns
        self._now_ns = max(self._now_ns, at_ns) if reached else self._now_ns + timeout_ns
        return reached

    def _event(self, step: Step) -> Event:
        if isinstance(step, Change):
            return replace(step.change, at_ns=step.change.at_ns + self._shift_ns)
        frame = self._recording.frame(step)
        offset_ns = self._offsets_ns[step.modality]
        if not offset_ns and not self._shift_ns:
            return frame
        return replace(
            frame,
            captured_ns=frame.captured_ns + offset_ns + self._shift_ns,
            arrived_ns=step.arrived_ns + self._shift_ns,
        )


def open_replay(uri: SourceUri, offsets_ns: Mapping[Modality, int] | None = None) -> tuple[ReplayFeed, bool, bool]:
    """The feed of `replay://RUN?…`, whether it runs in real time, and whether the camera tells its shutter.

    `offsets_ns` names the cameras wanted and what is added to the capture times of each; None: all as recorded.

    Raises:
        UsageError: options that cannot be meant, all in one line.
        SourceError: no recording, a damaged one, or one without the cameras wanted.
    """
    feed = ReplayFeed(Path(uri.path).expanduser(), parse_options(uri.options), offsets_ns)
    return feed, feed.live, feed.shutter_told


def make_plan(scene: Scene, options: ReplayOptions) -> Plan:
    """What is played: the recorded plan, its faults, the states that follow, the part asked for."""
    plan = scene.recorded
    if options.telemetry is not None:
        plan = Telemetry(options.telemetry).apply(plan, scene)
    plan = apply_faults(options.faults, plan, scene)
    silences = {modality: silence_of(period_ns) for modality, period_ns in scene.periods_ns.items()}
    plan = retell_states(plan, scene, silences)
    first_ns = scene.start_ns + options.first_ns
    end_ns = None if options.end_ns is None else scene.start_ns + options.end_ns
    return _bookended(_part(plan, first_ns, end_ns), scene)


def silence_of(period_ns: int) -> Silence:
    """How long a camera of this period may be silent: the rule of `mdrun.sources.live.reader`."""
    return Silence(max(STALL_PERIODS * period_ns, round(LEAST_STALL_S * NS_PER_S)), TIMEOUT_NS)


def _part(plan: Plan, first_ns: int, end_ns: int | None) -> Plan:
    """What happens between the two, and first the state that each camera has by then."""
    states: dict[Modality, Change] = {}
    part: list[Step] = []
    for step in plan:
        if step.at_ns < first_ns:
            if isinstance(step, Change):
                moved = replace(step.change, at_ns=first_ns)
                states[step.modality] = replace(step, change=moved)
        elif end_ns is None or step.at_ns < end_ns:
            part.append(step)
    return ordered([*states.values(), *part])


def _bookended(plan: Plan, scene: Scene) -> Plan:
    """Every camera begins with a state and has an end."""
    added: list[Step] = []
    last_ns = max((step.at_ns for step in plan), default=scene.end_ns)
    for modality in scene.names:
        steps = [step for step in plan if step.modality is modality]
        if steps and isinstance(steps[0], Shot):
            added.append(scene.change(modality, SourceState.LIVE, steps[0].at_ns, steps[0].order - 0.5))
        states = [step.state for step in steps if isinstance(step, Change)]
        if steps and (not states or states[-1] not in OVER):
            added.append(scene.change(modality, SourceState.ENDED, last_ns, math.inf))
    return ordered([*plan, *added])


def _offsets(recording: Recording, wanted: Mapping[Modality, int] | None) -> dict[Modality, int]:
    recorded = {step.modality for step in recording.plan if isinstance(step, Shot)}
    if wanted is None:
        return dict.fromkeys(sorted(recorded), 0)
    if missing := [modality.value for modality in wanted if modality not in recorded]:
        raise SourceError(
            f"{recording.folder}: holds no {' and no '.join(missing)} frames; leave that camera out, or record again"
        )
    return dict(wanted)
