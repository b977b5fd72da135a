"""A rig from Python: what its results say, the gate, the registration, several rigs with one engine."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

import mdrun
from mdrun.errors import MdrunError, RigError, SourceAuthError, UsageError
from mdrun.feeds import Event
from mdrun.frames import Frame, Modality, Notice, Provenance, SourceState, Verdict
from mdrun.manifest import OutputSpec
from mdrun.monitor import Monitor
from mdrun.registration.model import Registration
from mdrun.rig.active import ActiveEngine
from mdrun.rig.cameras import OpenFeed
from mdrun.rig.config import RigConfig
from mdrun.rig.engines import EnginePool
from mdrun.rig.run import RigRun, run_rigs
from mdrun.rig.session import Session
from mdrun.sources.images import read_image
from tests.runtime.engines import (
    THERMAL_WH,
    VISIBLE_WH,
    make_manifest,
    make_segment_manifest,
    save,
    write_blob,
    write_constant,
)
from tests.runtime.rigs import ScriptedFeed, change_at, two_cameras
from tests.runtime.test_pipeline import write_folders

BOX, SCORE, PERSON = np.array([[8, 8, 40, 60]], np.float32), np.array([0.9], np.float32), np.array([0], np.int32)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of ten frames and engines of every kind; no test changes it."""
    root = tmp_path_factory.mktemp("rig")
    write_folders(root, 10, 10)
    write_blob(root / "blob.onnx")
    write_constant(root / "blind.onnx", BOX, SCORE, PERSON)
    imagines = replace(make_manifest("imagines", 1), hallucinates=["thermal"])
    write_constant(root / "imagines.onnx", BOX, SCORE, PERSON, manifest=imagines)
    _write_energy(root / "strange.onnx", energy=-1.0)
    _write_energy(root / "usual.onnx", energy=-9.0)
    return root


def _write_energy(path: Path, energy: float) -> Path:
    """A visible-only segmenter that finds every pair as strange as that; its threshold is -3."""
    manifest = make_segment_manifest(path.stem)
    manifest = replace(
        manifest,
        outputs=manifest.outputs | {"energy": OutputSpec("float32", [1], "free energy")},
        energy={"fp32": -3.0},
    )
    labels = np.zeros((1, VISIBLE_WH[1], VISIBLE_WH[0]), np.int32)
    nodes = [helper.make_node("Identity", [f"all_{name}"], [name]) for name in ("labels", "energy")]
    return save(path, manifest, nodes, {"all_labels": labels, "all_energy": np.array([energy], np.float32)})


def rig(bench: Path, engines: list[str], thermal: bool = True, **keys: object) -> RigConfig:
    cameras = {"cam0": {"source": f"{bench}/visible?fps=10", "role": "visible"}}
    if thermal:
        cameras["cam1"] = {"source": f"{bench}/thermal?fps=10", "role": "thermal"}
    ladder = {"engines": [str(bench / name) for name in engines], "threads": 1}
    data = {"rig": "bench", "cameras": cameras, "ladder": ladder | dict(keys.pop("ladder", {}))}  # type: ignore[call-overload]
    return RigConfig.model_validate(data | {"drift": {"enabled": False}} | keys)


@pytest.mark.parametrize(
    ("role", "state", "words"),
    [
        ("visible", SourceState.LOST, "--start degraded (in a rig file `start: degraded`) waits for it"),
        ("thermal", SourceState.LOST, "--start degraded (in a rig file `start: degraded`) runs without it"),
        ("thermal", SourceState.FAILED, "--start degraded (in a rig file `start: degraded`) runs without it"),
        ("visible", SourceState.FAILED, ""),
    ],
)
def test_a_camera_missing_at_the_start_tells_how_to_go_on(
    role: str, state: SourceState, words: str, bench: Path
) -> None:
    refused = change_at(Modality(role), state, 0, "MDR-402", "http://10.0.0.5/x: the camera answers 401")
    opened = OpenFeed(ScriptedFeed([(0, refused)]), realtime=True, shutter_told=False, lookahead=False)
    with Session(rig(bench, ["blob.onnx"]), opened=opened) as session, pytest.raises(SourceAuthError) as caught:
        session.wait_for_cameras()
    assert str(caught.value) == "http://10.0.0.5/x: the camera answers 401" + (f"; {words}" if words else "")


def run_script(bench: Path, events: list[tuple[float, Event]], engines: list[str]) -> tuple[list[dict[str, Any]], Any]:
    """What the ladder tells about these events, and its transitions."""
    opened = OpenFeed(ScriptedFeed(events), realtime=True, shutter_told=False, lookahead=False)
    told: list[dict[str, Any]] = []
    with Session(rig(bench, engines, start="degraded"), opened=opened) as session:
        session.on_notice = lambda notice: told.append(notice.data) if notice.kind == "ladder" else None
        list(session)
        return told, session.monitor.snapshot()["ladder"]["transitions"]


def cameras_from(thermal_from_ms: float, seconds: float, fps: float = 30.0) -> list[tuple[float, Event]]:
    """Both cameras, no image like the one before; what the thermal one gives before then never comes."""
    found: list[tuple[float, Event]] = []
    for at_ms, event in two_cameras(seconds, fps=(30.0, fps)):
        if event.modality is Modality.THERMAL:
            if at_ms < thermal_from_ms:
                continue
            if isinstance(event, Frame):
                changed = replace(event, image=event.image - np.uint8(event.sequence % 7))
                found.append((at_ms, changed))
                continue
        found.append((at_ms, event))
    return found


def later(event: Event) -> Event:
    """The same a second later."""
    if isinstance(event, Frame):
        return replace(event, captured_ns=event.captured_ns + 10**9, arrived_ns=(event.arrived_ns or 0) + 10**9)
    return replace(event, at_ns=event.at_ns + 10**9)


def test_a_degraded_start_is_told_and_the_first_engine_starts_later(bench: Path) -> None:
    events = cameras_from(1000, 2.0)
    lost = change_at(Modality.THERMAL, SourceState.LOST, 0, "MDR-401", "no such host")
    told, steps = run_script(bench, [(0.0, lost), *events], ["blob.onnx", "blind.onnx"])
    assert told == [
        {"from": None, "to": "constant", "reason": "thermal_connecting"},
        {"from": "constant", "to": "blob", "reason": "returned"},
    ]
    assert {"from": "none", "to": "constant", "reason": "thermal_connecting", "count": 1} in steps


def test_a_start_that_no_engine_can_make_is_told_and_the_engine_starts_later(bench: Path) -> None:
    events = cameras_from(1000, 2.0)
    lost = change_at(Modality.THERMAL, SourceState.LOST, 0, "MDR-401", "no such host")
    told, _ = run_script(bench, [(0.0, lost), *events], ["blob.onnx"])
    assert [(step["from"], step["to"], step["reason"]) for step in told] == [
        (None, None, "thermal_connecting"),
        (None, "blob", "started"),
    ]


def test_first_images_that_come_one_after_the_other_are_nothing_to_tell(bench: Path) -> None:
    told, steps = run_script(bench, cameras_from(0, 1.0), ["blob.onnx", "blind.onnx"])
    assert (told, steps) == ([], [])


def test_a_thermal_camera_that_ends_is_told(bench: Path) -> None:
    events = [item for item in cameras_from(0, 2.0) if item[0] < 1000 or item[1].modality is Modality.VISIBLE]
    told, _ = run_script(bench, events, ["blob.onnx", "blind.onnx"])
    assert [(step["from"], step["to"]) for step in told] == [("blob", "constant")]


def test_strict_gives_measured_results_or_drops_whatever_the_ladder_holds(bench: Path) -> None:
    lost = change_at(Modality.THERMAL, SourceState.LOST, 3000, "MDR-401", "gone")
    events = [item for item in cameras_from(0, 4.0, 9.0) if item[0] < 3000 or item[1].modality is Modality.VISIBLE]
    events = sorted([*events, (3000.0, lost)], key=lambda item: item[0])
    opened = OpenFeed(ScriptedFeed(events), realtime=True, shutter_told=False, lookahead=False)
    told: list[dict[str, Any]] = []
    config = rig(
        bench, ["blob.onnx", "blind.onnx"], start="degraded", pairing={"policy": "strict", "skew_ms": 20, "wait_ms": 60}
    )
    with Session(config, opened=opened) as session:
        session.on_notice = lambda notice: told.append(notice.data) if notice.kind == "ladder" else None
        results = list(session)
        drops = session.monitor.drops
    assert {result.thermal_provenance for result in results} == {Provenance.MEASURED}
    assert {result.rung for result in results} == {0}
    assert len(results) + drops.total() == sum(
        isinstance(event, Frame) and event.modality is Modality.VISIBLE for _, event in events
    )
    assert drops["thermal_stale"] > 20
    assert drops["thermal_lost"] > 20
    assert told == [{"from": "blob", "to": None, "reason": "thermal_lost"}]


def test_lone_uses_every_measured_image_and_tells_no_switch_between(bench: Path) -> None:
    told: list[dict[str, Any]] = []
    opened = OpenFeed(ScriptedFeed(cameras_from(0, 4.0, 9.0)), realtime=True, shutter_told=False, lookahead=False)
    pairing = {"policy": "lone", "skew_ms": 60, "wait_ms": 0}
    config = rig(bench, ["blob.onnx", "blind.onnx"], start="degraded", pairing=pairing)
    with Session(config, opened=opened) as session:
        session.on_notice = lambda notice: told.append(notice.data) if notice.kind == "ladder" else None
        results = list(session)
    later = results[10:]
    measured = [result.thermal_provenance is Provenance.MEASURED for result in later]
    assert 0.1 < np.mean(measured) < 0.8
    assert [result.rung for result in later] == [0 if has else 1 for has in measured]
    assert {result.rung_reason for result in later} == {"", "thermal_stale"}
    assert [switch["reason"] for switch in told] == ["thermal_stale", "returned"]  # until the first measured image


def test_open_gives_every_result_with_its_provenance(bench: Path) -> None:
    notices: list[Notice] = []
    with mdrun.open(rig(bench, ["blob.onnx"])) as session:
        session.on_notice = notices.append
        results = list(session)
        session.check()
        assert session.monitor.snapshot()["results"] == 10
    assert [result.pair.visible.sequence for result in results] == list(range(10))
    assert {result.thermal_provenance for result in results} == {Provenance.MEASURED}
    assert {result.rig for result in results} == {"bench"}
    assert all(result.track_ids is not None for result in results)
    assert {event.kind for result in results for event in result.events} >= {"new"}
    assert [n.data["state"] for n in notices if n.kind == "source"][-2:] == ["ended", "ended"]


def test_open_by_sources_and_engine(bench: Path) -> None:
    session = mdrun.open(
        visible=f"{bench}/visible?fps=10", thermal=f"{bench}/thermal?fps=10", engine=bench / "blob.onnx"
    )
    with session:
        assert next(iter(session)).pair.visible.source == "cam0"
    with pytest.raises(UsageError, match="wants a rig file"):
        mdrun.open()
    with pytest.raises(RigError, match="cameras"):
        mdrun.open({"rig": "x"})


@pytest.mark.parametrize(
    ("engine", "wanted"), [("blind.onnx", Provenance.ABSENT), ("imagines.onnx", Provenance.HALLUCINATED)]
)
def test_an_engine_without_a_thermal_input_says_what_it_knows(bench: Path, engine: str, wanted: Provenance) -> None:
    with Session(rig(bench, [engine], thermal=False)) as session:
        assert {result.thermal_provenance for result in session} == {wanted}


@pytest.mark.parametrize(("asked", "counted"), [(None, 0), (0.8, 10)])
def test_each_engine_of_a_ladder_has_its_own_display_threshold(
    bench: Path, tmp_path: Path, asked: float | None, counted: int
) -> None:
    """A score of 0.9 is worth less of an engine that wants 0.95; what the user asks for holds for all."""
    strict = make_manifest("strict", 1)
    strict = replace(strict, thresholds=replace(strict.thresholds, display=0.95))
    engine = write_constant(tmp_path / "strict.onnx", BOX, SCORE, PERSON, manifest=strict)
    config = rig(bench, ["blob.onnx", str(engine)], thermal=False, display_threshold=asked)
    with Session(config) as session:
        results = list(session)
        assert session.monitor.objects.total() == counted
    assert {(result.engine, result.rung, result.display) for result in results} == {("strict", 1, asked or 0.95)}
    assert {event.kind for result in results for event in result.events} == ({"new"} if counted else set())


@pytest.mark.parametrize(
    ("engines", "strange", "verdict", "ran"),
    [
        (["usual.onnx"], "flag", Verdict.PASS, "usual"),
        (["strange.onnx"], "flag", Verdict.FLAG, "strange"),
        (["strange.onnx"], "fallback", Verdict.FLAG, "strange"),  # nothing below it can run
        (["strange.onnx", "usual.onnx"], "fallback", Verdict.FALLBACK, "usual"),
        (["strange.onnx", "usual.onnx"], "flag", Verdict.FLAG, "strange"),
    ],
)
def test_the_gate_passes_flags_or_falls_back(
    bench: Path, engines: list[str], strange: str, verdict: Verdict, ran: str
) -> None:
    with Session(rig(bench, engines, ladder={"strange": strange})) as session:
        results = list(session)
    assert {result.verdict for result in results} == {verdict}
    assert {result.engine for result in results} == {ran}
    assert {result.energy for result in results} == ({-9.0} if engines == ["usual.onnx"] else {-1.0})


def test_an_engine_that_stands_in_for_a_strange_scene_is_the_one_that_is_shown(bench: Path) -> None:
    told: list[Notice] = []
    with Session(rig(bench, ["strange.onnx", "usual.onnx"], ladder={"strange": "fallback"})) as session:
        session.on_notice = lambda notice: told.append(notice) if notice.kind == "ladder" else None
        list(session)
        ladder = session.monitor.snapshot()["ladder"]
    assert (ladder["active"], ladder["reason"]) == (1, "energy")
    assert ladder["transitions"] == [{"from": "none", "to": "usual", "reason": "energy", "count": 1}]
    assert [notice.data for notice in told] == [{"from": None, "to": "usual", "reason": "energy"}]


def shown(reasons: str, back_after: int) -> tuple[list[tuple[int | None, str]], list[str]]:
    """What is active after each result, and what is told: `e` a strange scene, `.` a usual one."""
    monitor = Monitor("gate", {Modality.VISIBLE: "cam0"})
    monitor.engines = [{"name": "first"}, {"name": "second"}]
    tell: list[Notice] = []
    active = ActiveEngine(monitor, ["first", "second"], tell.append, back_after=back_after)
    seen = []
    for at_ns, strange in enumerate(letter == "e" for letter in reasons):
        active.show(int(strange), "energy" if strange else "", at_ns)
        seen.append((monitor.rung, monitor.rung_reason))
    told = [f"{notice.data['from']} {notice.data['to']} {notice.data['reason']}" for notice in tell]
    return seen, told


def test_a_scene_at_the_threshold_is_not_told_with_every_frame() -> None:
    first, second = (0, ""), (1, "energy")
    seen, told = shown(".e.e..e...e", back_after=3)
    assert seen == [first, *[second] * 8, first, second]
    assert told == ["first second energy", "second first returned", "first second energy"]


def test_the_start_may_be_strange() -> None:
    assert shown("ee...", back_after=2)[1] == ["None second energy", "second first returned"]


def test_a_missing_visible_camera_is_told_at_a_degraded_start(bench: Path) -> None:
    lost = change_at(Modality.VISIBLE, SourceState.LOST, 0, "MDR-401", "no such host")
    late = [(1000 + at_ms, later(event)) for at_ms, event in cameras_from(0, 0.5)]
    told, steps = run_script(bench, [(0.0, lost), (500.0, lost), *late], ["blob.onnx", "blind.onnx"])
    assert [(step["from"], step["to"], step["reason"]) for step in told] == [
        (None, None, "visible_connecting"),
        (None, "constant", "thermal_no_thermal"),
        ("constant", "blob", "returned"),
    ]
    assert [step["count"] for step in steps] == [1, 1]


@pytest.mark.parametrize("mistake", ["bad pixel", "raw counts", "calibration"])
def test_a_thermal_camera_of_no_use_is_given_up_where_the_rig_may_go_on_without(
    bench: Path, tmp_path: Path, mistake: str
) -> None:
    """With `start: degraded`; a rig that requires both cameras ends with the error."""
    events, keys = cameras_from(0, 1.0), dict[str, Any]()
    if mistake == "bad pixel":
        keys["bad_pixels"] = [[THERMAL_WH[0], 0]]
    elif mistake == "raw counts":
        events = [(at_ms, with_counts(event)) for at_ms, event in events]
    config = rig(bench, ["blob.onnx", "blind.onnx"], start="degraded")
    cameras = {name: camera.model_copy() for name, camera in config.cameras.items()}
    cameras["cam1"] = type(cameras["cam1"]).model_validate(cameras["cam1"].model_dump(exclude_unset=True) | keys)
    config = config.model_copy(update={"cameras": cameras})
    if mistake == "calibration":
        path = tmp_path / "square.yaml"
        Registration.from_homography(np.diag([2.0, 2.0, 1.0]), VISIBLE_WH, (40, 40)).save(path)
        config = config.model_copy(update={"calibration": path})

    def run(config: RigConfig) -> tuple[list[Any], list[dict[str, Any]]]:
        opened = OpenFeed(ScriptedFeed(events), realtime=True, shutter_told=False, lookahead=False)
        told: list[dict[str, Any]] = []
        with Session(config, opened=opened) as session:
            session.on_notice = lambda notice: told.append(notice.data) if notice.kind == "source" else None
            return list(session), told

    results, told = run(config)
    frames = sum(isinstance(event, Frame) and event.modality is Modality.VISIBLE for _, event in events)
    assert len(results) == frames
    assert {result.rung for result in results[3:]} == {1}
    failed = [data for data in told if data["state"] == "failed"]
    assert [(data["camera"], bool(data["code"]), bool(data["message"])) for data in failed] == [("thermal", True, True)]
    with pytest.raises(MdrunError):
        run(config.model_copy(update={"start": "require"}))


def with_counts(event: Event) -> Event:
    """A thermal image of 16 bits."""
    if isinstance(event, Frame) and event.modality is Modality.THERMAL:
        return replace(event, image=event.image.astype(np.uint16))
    return event


def test_the_calibration_moves_the_thermal_image(bench: Path, tmp_path: Path) -> None:
    visible = read_image(next((bench / "visible").iterdir()), Modality.VISIBLE)
    thermal = read_image(next((bench / "thermal").iterdir()), Modality.THERMAL)
    size = (visible.shape[1], visible.shape[0])
    scale, centre = size[0] / thermal.shape[1], (size[0] / thermal.shape[1] - 1) / 2  # pixels count from their centres
    aside = np.array([[scale, 0, centre + 5 * scale], [0, scale, centre], [0, 0, 1]])
    registration = Registration.from_homography(aside, size, (thermal.shape[1], thermal.shape[0]))
    registration.save(tmp_path / "gate.yaml")
    with Session(rig(bench, ["blob.onnx"])) as session:
        plain = next(iter(session))
    with Session(rig(bench, ["blob.onnx"], calibration=str(tmp_path / "gate.yaml"))) as session:
        moved = next(iter(session))
        assert session.monitor.snapshot()["registration"]["kind"] == "homography"
    assert plain.detections is not None
    assert moved.detections is not None
    step = moved.detections.boxes_xyxy[0] - plain.detections.boxes_xyxy[0]
    assert step == pytest.approx([5 * size[0] / THERMAL_WH[0], 0, 5 * size[0] / THERMAL_WH[0], 0], abs=0.6)
    assert moved.pair.thermal is not None
    assert moved.pair.thermal.unaligned is not None


def test_two_rigs_share_an_engine_and_account_for_their_own_frames(bench: Path, tmp_path: Path) -> None:
    rigs = [rig(bench, ["blob.onnx"], rig=name, outputs=[str(tmp_path / name)]) for name in ("gate", "yard")]
    with EnginePool() as pool:
        runs = [RigRun(config, pool) for config in rigs]
        assert runs[0].session.engines[0] is runs[1].session.engines[0]
        for run in runs:
            run.stop()
            run.run()
    reports, code = run_rigs(rigs)
    assert code == 0
    for report, name in zip(reports, ("gate", "yard"), strict=True):
        assert report.summary["results"] == 10
        lines = [json.loads(line) for line in (tmp_path / name / "results.jsonl").read_text().splitlines()]
        assert {line["rig"] for line in lines} == {name}
        assert json.loads((tmp_path / name / "summary.json").read_text())["results"] == 10


def test_an_earlier_run_in_the_folder_keeps_its_results(bench: Path, tmp_path: Path) -> None:
    config = rig(bench, ["blob.onnx"], outputs=[str(tmp_path / "run")])
    run_rigs([config], frames=4, overlay=False)
    run_rigs([config], overlay=False)
    counts = [len((tmp_path / "run" / name).read_text().splitlines()) for name in ("results.1.jsonl", "results.jsonl")]
    assert counts == [4, 10]


def test_a_rig_that_could_never_run_is_refused(bench: Path) -> None:
    with pytest.raises(UsageError, match="there is no thermal camera"):
        Session(rig(bench, ["blob.onnx"], thermal=False))


def test_a_failed_start_leaves_an_earlier_run_alone(bench: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run_rigs([rig(bench, ["blob.onnx"], outputs=[str(folder)])], overlay=False)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    gone = {"cam0": {"source": "rtsp://127.0.0.1:1/a", "role": "visible"}}
    config = {"rig": "bench", "cameras": gone, "ladder": {"engines": [str(bench / "blind.onnx")]}}
    with pytest.raises(MdrunError, match=r"refused|listens"):
        run_rigs([RigConfig.model_validate(config | {"outputs": [str(folder), str(tmp_path / "new")]})])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not (tmp_path / "new").exists()


def test_results_on_standard_output_share_it_with_nothing(bench: Path, tmp_path: Path) -> None:
    """Into a file, where two that write from its start would write over each other."""
    config = rig(bench, ["blob.onnx"], outputs=["jsonl:/dev/stdout"]).model_dump(mode="json", exclude_unset=True)
    (tmp_path / "rig.yaml").write_text(json.dumps(config))
    with (tmp_path / "results").open("w") as file:
        command = [sys.executable, "-m", "mdrun", "--rig", str(tmp_path / "rig.yaml")]
        done = subprocess.run(command, stdout=file, stderr=subprocess.PIPE, text=True, check=True, timeout=120)
    lines = [json.loads(line) for line in (tmp_path / "results").read_text().splitlines()]
    assert [line["sequence"] for line in lines] == list(range(10))
    assert "captured" in done.stderr  # the table
