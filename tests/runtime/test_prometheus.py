"""A real Prometheus scrapes a real page, and answers queries about what it found."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mdrun.frames import FfcState, Modality, SourceState
from tests.broker import free_port

PROMETHEUS = shutil.which("prometheus")
PATIENCE_S = 60.0  # of a machine that does much else

pytestmark = [
    pytest.mark.slow,  # it starts, scrapes and evaluates once a second
    pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed (Debian package prometheus)"),
]
pytest.importorskip("starlette", reason="the live page is not installed: mdrun[web]")

ROOT = Path(__file__).resolve().parents[2]


def alert_rules() -> str:
    """The rules that docs/observability.md shows, as they stand there."""
    page = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    return next(block for block in page.split("```yaml\n")[1:] if block.startswith("groups:")).partition("```")[0]


class Prometheus:
    """Its HTTP API."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"

    def ask(self, path: str, **query: str) -> Any:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.base}{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def values(self, query: str) -> dict[str, float]:
        """By the labels that tell samples apart."""
        found = self.ask("/api/v1/query", query=query)["result"]
        own = {"__name__", "instance", "job"}
        return {
            ",".join(f"{key}={value}" for key, value in sorted(sample["metric"].items()) if key not in own): float(
                sample["value"][1]
            )
            for sample in found
        }


@contextmanager
def scraping(folder: Path, target: str) -> Iterator[Prometheus]:
    port = free_port()
    (folder / "rules.yml").write_text(alert_rules())
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        "rule_files: [rules.yml]\n"
        f"scrape_configs: [{{job_name: mdrun, static_configs: [{{targets: ['{target}']}}]}}]\n"
    )
    command = [
        str(PROMETHEUS), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            yield Prometheus(port)
        finally:
            process.kill()
            process.wait()


def until(condition: Any, what: str) -> Any:
    end, last = time.monotonic() + PATIENCE_S, None
    while time.monotonic() < end:
        try:
            if last := condition():
                return last
        except OSError:  # not yet up
            pass
        time.sleep(0.2)
    raise AssertionError(f"waited {PATIENCE_S:g} s for {what}, last {last!r}")


def test_prometheus_finds_every_result(tmp_path: Path) -> None:
    from tests.runtime.web_rig import serving, shutter

    with serving() as rig, scraping(tmp_path, rig.url.removeprefix("http://")) as prometheus:
        for modality in Modality:
            rig.state(modality, SourceState.LIVE)
        for _ in range(7):
            rig.step()
        shutter(rig, FfcState.RUNNING)
        found = until(lambda: prometheus.values("mdrun_results_total"), "a scrape")
        assert found == {"rig=gate": 7.0}
        assert prometheus.values("up") == {"": 1.0}
        assert prometheus.values("mdrun_source_up") == {"rig=gate,role=thermal": 1.0, "rig=gate,role=visible": 1.0}
        assert prometheus.values("mdrun_ffc_state == 1") == {"mdrun_ffc_state=running,rig=gate": 1.0}
        assert prometheus.values("mdrun_e2e_seconds_count") == {"rig=gate": 7.0}
        p99 = prometheus.values("histogram_quantile(0.99, mdrun_e2e_seconds_bucket)")
        assert 0 < p99["rig=gate"] < 1
        for _ in range(5):
            rig.step()
        until(lambda: prometheus.values("mdrun_results_total") == {"rig=gate": 12.0}, "a later scrape")


def test_the_documented_alert_rules_are_taken_and_look_at_metrics_that_exist(tmp_path: Path) -> None:
    from tests.runtime.web_rig import serving

    with serving() as rig, scraping(tmp_path, rig.url.removeprefix("http://")) as prometheus:
        rig.step()
        rig.state(Modality.THERMAL, SourceState.LOST, "MDR-405", "gone")
        rig.monitor.add_drop("busy")
        rig.monitor.set_registration({"drift": {"shift_px": 0.5, "confidence": 0.9, "alarm": False}})
        (group,) = until(lambda: prometheus.ask("/api/v1/rules")["groups"], "the rules")
        assert {rule["name"] for rule in group["rules"]} >= {"ThermalLost", "NoResults", "FramesDropped", "SlowResults"}
        until(lambda: prometheus.values("mdrun_results_total"), "a scrape")
        used = {name for rule in group["rules"] for name in re.findall(r"\bmdrun_\w+\b(?!=)", rule["query"])}
        assert used
        assert used - set(prometheus.ask("/api/v1/label/__name__/values")) == set()
        until(lambda: _state(prometheus, "ThermalLost") == "pending", "the alert")


def _state(prometheus: Prometheus, name: str) -> str:
    rules = prometheus.ask("/api/v1/rules")["groups"][0]["rules"]
    return next(str(rule["state"]) for rule in rules if rule["name"] == name)
