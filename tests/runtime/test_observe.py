"""Metrics as Prometheus reads them, health as orchestrators ask for it."""

from __future__ import annotations

import io
import shutil
import subprocess
import time
from collections import Counter
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from mdrun.frames import FfcState, Modality, Provenance, SourceState, Verdict
from mdrun.monitor import Monitor, SinkStatus
from mdrun.observe.health import health
from mdrun.observe.metrics import metrics_text
from mdrun.top_view import draw
from tests.runtime.rigs import CAMERAS, change_at, frame_at
from tests.runtime.test_statistics import make_result


def busy_monitor(rig: str = "gate") -> Monitor:
    """Ten visible frames, nine results, two engines, one switch."""
    monitor = Monitor(rig, dict(CAMERAS))
    keys = {"task": "detect", "precision": "int8", "backend": "onnxruntime", "device": "cpu", "digest": "0" * 16}
    monitor.engines = [keys | {"name": name, "needs": []} for name in ("both", "visible")]
    for modality in Modality:
        monitor.add_state(change_at(modality, SourceState.LIVE, 0))
        for index in range(10):
            monitor.add_frame(frame_at(modality, 33 * index, index, 33 * index + 20))
    monitor.set_rung(0, "")
    for index in range(9):
        result = make_result(index)
        made = result.pair.visible.captured_ns + 45_000_000
        result = replace(result, produced_ns=made, energy=-4.5, verdict=Verdict.PASS)
        monitor.add_result(replace(result, thermal_provenance=Provenance.MEASURED), Counter(person=2))
    monitor.add_drop("busy")
    monitor.set_rung(1, "thermal_ffc")
    monitor.add_switch(0, 1, "thermal_ffc")
    monitor.add_ffc(FfcState.RUNNING, 1, 0.5)
    monitor.set_sink('jsonl:"a".jsonl', SinkStatus(written=9, dropped=1))
    return monitor


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(text.decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def test_every_count_is_there_with_its_labels() -> None:
    found = samples(metrics_text([busy_monitor(), busy_monitor("yard")]))
    rig = ("rig", "gate")
    assert found["mdrun_frames_captured_total", (rig, ("role", "visible"))] == 10
    assert found["mdrun_frames_dropped_total", (("cause", "busy"), rig, ("role", "visible"))] == 1
    assert found["mdrun_results_total", (("rig", "yard"),)] == 9
    assert found["mdrun_pairs_total", (rig, ("state", "measured"))] == 9
    assert found["mdrun_objects_total", (("class", "person"), rig)] == 18
    assert found["mdrun_source_up", (rig, ("role", "thermal"))] == 1
    assert found["mdrun_ffc_state", (("mdrun_ffc_state", "running"), rig)] == 1
    assert found["mdrun_mode", (("mdrun_mode", "visible"), rig)] == 1
    assert found["mdrun_mode", (("mdrun_mode", "both"), rig)] == 0
    step = (("from", "both"), ("reason", "thermal_ffc"), rig, ("to", "visible"))
    assert found["mdrun_mode_transitions_total", step] == 1
    assert found["mdrun_output_dropped_total", (("output", 'jsonl:"a".jsonl'), rig)] == 1
    assert found["mdrun_ood_gated_total", (rig, ("verdict", "pass"))] == 9


def test_histograms_hold_every_value() -> None:
    found = samples(metrics_text([busy_monitor()]))
    assert found["mdrun_e2e_seconds_count", (("rig", "gate"),)] == 9
    assert found["mdrun_e2e_seconds_sum", (("rig", "gate"),)] == pytest.approx(9 * 0.045)
    buckets = [(k[1], v) for k, v in found.items() if k[0] == "mdrun_e2e_seconds_bucket"]
    by_edge = {dict(labels)["le"]: value for labels, value in buckets}
    assert by_edge["0.04"] == 0
    assert by_edge["0.05"] == by_edge["+Inf"] == 9
    assert list(by_edge.values()) == sorted(by_edge.values())


PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian package prometheus)")
def test_prometheus_itself_finds_nothing_to_mend() -> None:
    text = metrics_text([busy_monitor()])
    done = subprocess.run([str(PROMTOOL), "check", "metrics"], input=text, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode() + done.stdout.decode()


def test_health_of_a_rig_through_its_life() -> None:
    monitor = Monitor("gate", dict(CAMERAS))
    assert [health([monitor], kind)[0] for kind in ("startupz", "readyz", "livez")] == [503, 503, 200]
    monitor = busy_monitor()
    assert [health([monitor], kind)[0] for kind in ("startupz", "readyz", "livez", "healthz")] == [200] * 4
    monitor.add_state(change_at(Modality.THERMAL, SourceState.LOST, 400))
    assert health([monitor], "readyz")[1]["rigs"]["gate"]["state"] == "degraded"
    monitor.add_state(change_at(Modality.VISIBLE, SourceState.LOST, 500))
    assert state(monitor) == ("degraded", 200)  # most losses mend within seconds
    monitor.last_result = time.monotonic() - 14
    assert state(monitor) == ("degraded", 200)
    monitor.last_result = time.monotonic() - 16
    assert state(monitor) == ("failed", 503)
    assert [health([monitor], kind)[0] for kind in ("startupz", "livez")] == [200, 200]
    monitor.beat -= 60  # the loop hangs
    assert health([monitor], "livez")[0] == 503
    assert health([], "livez")[0] == 503


def state(monitor: Monitor) -> tuple[str, int]:
    """What every place that shows a state shows, and what `/readyz` answers."""
    code, answer = health([monitor], "readyz")
    assert monitor.snapshot()["state"] == answer["rigs"]["gate"]["state"]
    return str(answer["rigs"]["gate"]["state"]), code


def test_a_camera_that_is_given_up_has_failed_at_once_and_a_rung_that_is_not_the_first_degrades() -> None:
    monitor = busy_monitor()
    assert state(monitor) == ("degraded", 200)
    monitor.set_rung(0, "")
    assert state(monitor) == ("ready", 200)
    monitor.set_rung(None, "thermal_lost")
    assert state(monitor) == ("degraded", 200)
    monitor.add_state(change_at(Modality.VISIBLE, SourceState.FAILED, 500))
    assert state(monitor) == ("failed", 503)


def test_every_place_tells_the_same_drops() -> None:
    monitor = busy_monitor()
    monitor.add_drop("queue", 4)
    monitor.add_frame_drop(Modality.VISIBLE, "damaged", 2)
    monitor.add_frame_drop(Modality.THERMAL, "queue", 96)
    wanted = {"visible": {"busy": 1, "queue": 4, "damaged": 2}, "thermal": {"queue": 96}}
    metrics: dict[str, dict[str, float]] = {"visible": {}, "thermal": {}}
    for (name, labels), value in samples(metrics_text([monitor])).items():
        if name == "mdrun_frames_dropped_total":
            metrics[dict(labels)["role"]][dict(labels)["cause"]] = value
    status = monitor.snapshot()
    assert metrics == {role: camera["dropped"] for role, camera in status["cameras"].items()} == wanted
    console = Console(file=io.StringIO(), width=200)
    console.print(draw("http://x", {"gate": status}, {}, None, ""))
    shown = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert "visible damaged 2, busy 1, queue 4; thermal queue 96" in shown


def test_cameras_without_results_are_not_ready() -> None:
    monitor = busy_monitor()
    assert monitor.last_result is not None
    monitor.last_result -= 60
    assert [health([monitor], kind)[0] for kind in ("readyz", "livez")] == [503, 200]
    monitor.add_state(change_at(Modality.VISIBLE, SourceState.ENDED, 500))  # a recording at its end owes none
    assert health([monitor], "readyz")[0] == 200


def test_a_reconnect_is_counted_once() -> None:
    monitor = busy_monitor()
    for state in (SourceState.STALLED, SourceState.LOST, SourceState.CONNECTING, SourceState.LOST, SourceState.LIVE):
        monitor.add_state(change_at(Modality.THERMAL, state, 400))
    assert monitor.cameras[Modality.THERMAL].reconnects == 1
