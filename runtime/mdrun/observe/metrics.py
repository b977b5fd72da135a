"""Prometheus metrics of running rigs, made from their monitors when somebody asks.

Names as docs/observability.md lists them: `mdrun_<what>_<unit>`, `_total` on counters only, the rig and the camera's
role as labels, never a name inside a name.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
)
from prometheus_client.registry import Collector

from mdrun.frames import FfcState, Modality, SourceState
from mdrun.monitor import Histogram, Monitor

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Sample = tuple[list[str], float]


def metrics_text(monitors: Sequence[Monitor]) -> bytes:
    """All metrics of these rigs in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(RigCollector(monitors))
    return generate_latest(registry)


class RigCollector(Collector):
    """Reads the monitors at each scrape; between two scrapes it costs nothing."""

    def __init__(self, monitors: Sequence[Monitor]) -> None:
        self._monitors = monitors

    def collect(self) -> Iterator[Metric]:
        """Every family, with the samples of every rig."""
        for monitor in self._monitors:
            monitor.lock.acquire()
        try:
            families = list(self._families())
        finally:
            for monitor in self._monitors:
                monitor.lock.release()
        yield from families

    def _families(self) -> Iterator[Metric]:
        yield from self._cameras()
        yield from self._pairs()
        yield from self._engines()
        yield from self._histograms()
        yield from self._outputs()

    def _cameras(self) -> Iterator[Metric]:
        yield _counter("frames_captured", "Images that came from a camera", ROLE, self._roles(lambda c: c.captured))
        drops = [
            ([monitor.rig, role.value, cause], float(count))
            for monitor in self._monitors
            for role in monitor.cameras
            for cause, count in monitor.dropped(role).items()
        ]
        yield _counter("frames_dropped", "Images without a result, by cause", [*ROLE, "cause"], drops)
        yield _counter(
            "reconnects", "Connections that came back after a loss", ROLE, self._roles(lambda c: c.reconnects)
        )
        up = self._roles(lambda c: float(c.state is SourceState.LIVE))
        yield _gauge("source_up", "1 while images come", ROLE, up)
        now = time.monotonic()
        age = self._roles(lambda c: math.nan if c.last_seen is None else now - c.last_seen)
        yield _gauge("frame_age_seconds", "Since the last image came", ROLE, age)
        thermal = [(m.rig, camera) for m in self._monitors if (camera := m.cameras.get(Modality.THERMAL)) is not None]
        yield _counter("ffc_events", "Shutter events", ["rig"], [([rig], float(c.ffc_events)) for rig, c in thermal])
        yield _counter(
            "ffc_seconds", "Known time behind the shutter", ["rig"], [([rig], c.ffc_seconds) for rig, c in thermal]
        )
        states = StateSetMetricFamily("mdrun_ffc_state", "State of the thermal camera's shutter", labels=["rig"])
        for rig, camera in thermal:
            states.add_metric([rig], {state.value: camera.ffc is state for state in FfcState})
        yield states

    def _pairs(self) -> Iterator[Metric]:
        yield _counter("results", "Pairs that went through an engine", ["rig"], self._rigs(lambda m: m.results))
        yield self._counted("pairs", "Results by provenance of the thermal image", "state", lambda m: m.provenance)
        yield self._counted("objects", "Detections from the display threshold", "class", lambda m: m.objects)
        yield self._counted("events", "Track events", "kind", lambda m: m.events)
        yield self._counted("ood_gated", "Results by verdict of the energy gate", "verdict", lambda m: m.verdicts)
        drift = [
            ([m.rig], float(shift))
            for m in self._monitors
            if (shift := (m.registration.get("drift") or {}).get("shift_px")) is not None
        ]
        name = "registration_residual_pixels"
        yield _gauge(name, "Shift between the cameras, pixels of the thermal image", ["rig"], drift)

    def _engines(self) -> Iterator[Metric]:
        mode = StateSetMetricFamily("mdrun_mode", "The engine that runs", labels=["rig"])
        for monitor in self._monitors:
            names = [*(str(engine["name"]) for engine in monitor.engines), "none"]
            active = len(names) - 1 if monitor.rung is None else monitor.rung
            mode.add_metric([monitor.rig], {name: index == active for index, name in enumerate(names)})
        yield mode
        labels = ["rig", "from", "to", "reason"]
        switches = [([m.rig, *step], float(count)) for m in self._monitors for step, count in m.transitions.items()]
        yield _counter("mode_transitions", "Switches between engines", labels, switches)
        info = InfoMetricFamily("mdrun_engine", "Engines of the ladder", labels=["rig"])
        for monitor in self._monitors:
            for engine in monitor.engines:
                keys = ("name", "precision", "backend", "device", "digest")
                info.add_metric([monitor.rig], {key: str(engine[key]) for key in keys})
        yield info

    def _histograms(self) -> Iterator[Metric]:
        single: tuple[tuple[str, str, Callable[[Monitor], Histogram]], ...] = (
            ("pair_skew_seconds", "Visible minus thermal capture time", lambda m: m.skew_s),
            ("e2e_seconds", "From capture to result", lambda m: m.latency_s),
            ("energy", "Free energy of the pairs", lambda m: m.energy),
        )
        for name, text, of in single:
            family = HistogramMetricFamily(f"mdrun_{name}", text, labels=["rig"])
            for monitor in self._monitors:
                family.add_metric([monitor.rig], _buckets(of(monitor)), of(monitor).sum)
            yield family
        stages = HistogramMetricFamily("mdrun_stage_seconds", "Wall time of each stage", labels=["rig", "stage"])
        for monitor in self._monitors:
            for stage, histogram in monitor.stages_s.items():
                stages.add_metric([monitor.rig, stage], _buckets(histogram), histogram.sum)
        yield stages

    def _outputs(self) -> Iterator[Metric]:
        kinds = {
            "output_results": ("Results that an output has written or delivered", "written"),
            "output_dropped": ("Results that an output could not take in time", "dropped"),
            "output_errors": ("Failures of an output", "errors"),
            "output_lost": ("Notices and messages, no results, that an output gave up", "lost"),
        }
        for name, (text, key) in kinds.items():
            samples = [
                ([m.rig, output], float(getattr(status, key)))
                for m in self._monitors
                for output, status in m.sinks.items()
            ]
            yield _counter(name, text, ["rig", "output"], samples)

    def _roles(self, value: Callable[..., float]) -> list[Sample]:
        return [
            ([monitor.rig, role.value], float(value(camera)))
            for monitor in self._monitors
            for role, camera in monitor.cameras.items()
        ]

    def _rigs(self, value: Callable[[Monitor], float]) -> list[Sample]:
        return [([monitor.rig], float(value(monitor))) for monitor in self._monitors]

    def _counted(self, name: str, text: str, label: str, counts: Callable[[Monitor], dict[str, int]]) -> Metric:
        samples = [([m.rig, key], float(count)) for m in self._monitors for key, count in counts(m).items()]
        return _counter(name, text, ["rig", label], samples)


ROLE = ["rig", "role"]


def _counter(name: str, text: str, labels: list[str], samples: Iterable[Sample]) -> CounterMetricFamily:
    family = CounterMetricFamily(f"mdrun_{name}", text, labels=labels)
    for values, count in samples:
        family.add_metric(values, count)
    return family


def _gauge(name: str, text: str, labels: list[str], samples: Iterable[Sample]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"mdrun_{name}", text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Upper edges and cumulated counts, as Prometheus wants them."""
    total, found = 0, []
    for edge, count in zip((*map(str, histogram.edges), "+Inf"), histogram.counts, strict=True):
        total += count
        found.append((edge, float(total)))
    return found
