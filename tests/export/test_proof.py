"""What every conversion needs: an FP32 engine, labelled scenes, a verdict that decides whether a file is written."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest

from mdexport.engine_file import OnnxEngine, read_engine, stamp, write_engine
from mdexport.gate import GateError
from mdexport.pairs import FEWEST, INTACT, PairSet
from mdexport.proof import FEWEST_LABELLED, MOST_GATE_PAIRS, Judged, Ready, finish, gate_scenes, prepare
from mdrun.errors import DataError, EngineError, OutputError, UsageError
from mdrun.manifest import Manifest
from mdrun.onnx_file import check_graph, read_manifest
from mdrun.verified import find_doubt
from tests.export.graphs import shift_output
from tests.export.labelled import Made


def unchanged(manifest: Manifest) -> Manifest:
    return manifest


def failing(judged: Judged) -> Judged:
    return judged._replace(parity=dataclasses.replace(judged.parity, passed=False))


def test_the_gate_sees_intact_scenes_and_failing_cameras(ready: Ready) -> None:
    conditions = [scene.condition for scene in ready.scenes]
    assert conditions[:FEWEST] == [INTACT] * FEWEST
    assert set(conditions[FEWEST:]) == {"visible black", "thermal black", "thermal frozen"}
    assert len(ready.reference) == len(ready.scenes)
    assert ready.data == "msrs val, fusion labels"


def test_the_engine_follows_itself_exactly(ready: Ready) -> None:
    parity, threshold = ready.judge(ready.engine.model, "fp32")
    assert parity.passed
    assert parity.matched == 1
    assert not any(parity.max_abs.values())
    assert parity.reference == "tiny.onnx fp32"
    assert threshold is None  # detectors have no energy


def test_a_passing_engine_is_written_with_its_report(ready: Ready, tmp_path: Path) -> None:
    output = tmp_path / "copy.onnx"
    judged = ready.judge(ready.engine.model, "fp32")
    manifest = finish(ready, ready.engine.model, unchanged, judged, output, None)
    assert read_manifest(output) == manifest
    check_graph(output, manifest)
    assert manifest.parity == judged.parity
    assert manifest.parity.accepted is None
    assert manifest.origin.opset == 18
    assert list(tmp_path.iterdir()) == [output]


def test_what_is_made_of_an_engine_that_is_not_verified_is_not_either(ready: Ready, tmp_path: Path) -> None:
    parity, model = ready.engine.manifest.parity, ready.engine.model
    assert parity is not None
    manifest = dataclasses.replace(ready.engine.manifest, parity=dataclasses.replace(parity, pairs=1))
    doubtful = ready._replace(engine=ready.engine._replace(manifest=manifest))
    finish(doubtful, model, unchanged, doubtful.judge(model, "fp32"), tmp_path / "a.onnx", None)
    told = "what it was compared with, tiny.onnx, is not verified itself: only 1 pairs were compared, wanted"
    assert str(find_doubt(read_manifest(tmp_path / "a.onnx"))).startswith(told)
    finish(ready, model, unchanged, ready.judge(model, "fp32"), tmp_path / "b.onnx", None)
    assert find_doubt(read_manifest(tmp_path / "b.onnx")) is None


def test_bytes_of_a_path_that_are_no_text_do_not_end_a_conversion(ready: Ready, tmp_path: Path) -> None:
    odd = ready._replace(data="pairs of ms\udcff val")
    finish(odd, ready.engine.model, unchanged, odd.judge(ready.engine.model, "fp32"), tmp_path / "a.onnx", None)
    parity = read_manifest(tmp_path / "a.onnx").parity
    assert parity is not None
    assert parity.data == "pairs of ms? val"


def test_a_failing_engine_is_not_written(ready: Ready, tmp_path: Path) -> None:
    judged = failing(ready.judge(ready.engine.model, "fp32"))
    with pytest.raises(GateError, match=r"copy\.onnx: does not follow tiny\.onnx: person/ap50 .* --accept REASON"):
        finish(ready, ready.engine.model, unchanged, judged, tmp_path / "copy.onnx", None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("passes", [True, False])
def test_a_reason_is_kept_where_there_was_something_to_accept(passes: bool, ready: Ready, tmp_path: Path) -> None:
    judged = ready.judge(ready.engine.model, "fp32")
    if not passes:
        judged = failing(judged)
    output = tmp_path / "copy.onnx"
    finish(ready, ready.engine.model, unchanged, judged, output, "a demo, not a product")
    parity = read_manifest(output).parity
    assert parity is not None
    assert parity.passed is passes
    assert parity.accepted == (None if passes else "a demo, not a product")


def test_only_single_precision_is_converted(ready: Ready, tmp_path: Path, detector: Made) -> None:
    path = tmp_path / "half.onnx"
    origin = dataclasses.replace(ready.engine.manifest.origin, precision="fp16", graph_sha256=None)
    write_engine(ready.engine.model, dataclasses.replace(ready.engine.manifest, origin=origin), path)
    with pytest.raises(UsageError, match=r"half\.onnx: its precision is fp16, wanted fp32"):
        prepare(path, PairSet("msrs", detector.pairs))


def test_a_graph_that_the_library_does_not_take(ready: Ready, tmp_path: Path, detector: Made) -> None:
    """Of an operator set that is still to come: its file is whole, and what is said about it is one short line."""
    model = onnx.ModelProto()
    model.CopyFrom(ready.engine.model)
    for entry in model.opset_import:
        entry.version = 99 if not entry.domain else entry.version
    write_engine(model, stamp(model, ready.engine.manifest), tmp_path / "tomorrow.onnx")
    with pytest.raises(EngineError, match=r"tomorrow\.onnx: ONNX Runtime refuses it: .*Opset 99") as caught:
        prepare(tmp_path / "tomorrow.onnx", PairSet("msrs", detector.pairs))
    assert "onnxruntime_src" not in str(caught.value)


def test_a_full_disk_is_named_with_the_file(ready: Ready, tmp_path: Path, small_disk: None) -> None:
    output = tmp_path / "student.onnx"
    output.write_bytes(b"older")
    with pytest.raises(
        OutputError, match=r"student\.onnx: cannot be written \(File too large\); choose another --output"
    ):
        write_engine(ready.engine.model, ready.engine.manifest, output)
    assert output.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [output]


def test_a_plan_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="a plan, wanted the ONNX file that it was built from"):
        read_engine(tmp_path / "student.plan")


def test_label_maps_are_judged_by_label_maps(segmenter: Made) -> None:
    """MSRS' own labels are boxes: nothing could be measured, so nothing passes."""
    manifest = read_manifest(segmenter.engine)
    assert gate_scenes(manifest, PairSet("street", segmenter.pairs), "val")
    with pytest.raises(DataError, match=r"vi/00101D\.jpg: it is the first of 16 pairs, of which none has a label map"):
        gate_scenes(manifest, PairSet("msrs", segmenter.pairs), "val")


def test_boxes_are_judged_by_boxes(detector: Made, tmp_path: Path) -> None:
    from tests.export.labelled import write_pairs

    pairs = write_pairs(tmp_path / "empty")
    for path in (pairs / "labels" / "fusion").iterdir():
        path.write_text("")
    with pytest.raises(DataError, match="of which none has a box of person, bicycle, car; an engine of the task det"):
        gate_scenes(read_manifest(detector.engine), PairSet("msrs", pairs), "val")


def test_one_labelled_pair_proves_nothing(detector: Made, tmp_path: Path) -> None:
    from tests.export.labelled import write_pairs

    pairs = write_pairs(tmp_path / "one")
    names = (pairs / "val.txt").read_text().split()
    for name in names[FEWEST_LABELLED - 1 :]:
        (pairs / "labels" / "fusion" / f"{Path(name).stem}.txt").write_text("")
    with pytest.raises(DataError, match=f"of which {FEWEST_LABELLED - 1} have a box .* wanted at least 8"):
        gate_scenes(read_manifest(detector.engine), PairSet("msrs", pairs), "val")


def test_the_pairs_that_judge_have_the_labels(detector: Made, tmp_path: Path) -> None:
    """Of a long list some are taken: labels of the others prove nothing."""
    from tests.export.labelled import write_pairs

    pairs = write_pairs(tmp_path / "long", 2 * MOST_GATE_PAIRS)
    manifest = read_manifest(detector.engine)
    judging = {scene.record.name for scene in gate_scenes(manifest, PairSet("msrs", pairs), "val")}
    for label in (pairs / "labels" / "fusion").iterdir():
        if label.stem in judging:
            label.write_text("")
    with pytest.raises(DataError, match=f"the first of {MOST_GATE_PAIRS} pairs, of which none has a box"):
        gate_scenes(manifest, PairSet("msrs", pairs), "val")


def test_the_threshold_of_a_conversion_is_that_of_its_own_energies(segmenter: Made) -> None:
    """Where the converted graph's energies are shifted the threshold goes with them."""
    ready = prepare(segmenter.engine, PairSet("street", segmenter.pairs))
    shifted = [one | {"energy": one["energy"] + 5} for one in ready.reference]
    before, after = (ready.judge_outputs(outputs, "int8", "these tests") for outputs in (ready.reference, shifted))
    assert before.energy_threshold is not None
    assert after.energy_threshold == pytest.approx(before.energy_threshold + 5)
    moved = onnx.ModelProto()
    moved.CopyFrom(ready.engine.model)
    judged = ready.judge(shift_output(moved, "energy", 5), "int8")
    assert judged.energy_threshold == pytest.approx(before.energy_threshold + 5, abs=1e-4)


def test_a_segmenters_threshold_is_that_of_its_own_energies(segmenter: Made) -> None:
    ready = prepare(segmenter.engine, PairSet("street", segmenter.pairs))
    judged = ready.judge(ready.engine.model, "fp32")
    energies = [
        float(output["energy"][0])
        for scene, output in zip(ready.scenes, ready.reference, strict=True)
        if scene.condition == INTACT
    ]
    assert judged.energy_threshold == pytest.approx(np.quantile(energies, 0.95))
    assert isinstance(ready.engine, OnnxEngine)
