"""Real short trainings on a tiny set: what they leave, that they learn, that they can be continued."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from mdrun.errors import EngineError, OutputError, UsageError
from mdrun.manifest import Manifest
from mdtrain import loop
from mdtrain.build import load_trained
from mdtrain.config import Config, load_config
from mdtrain.contract import draft_manifest
from mdtrain.data.batches import Batch
from mdtrain.loop import Start
from mdtrain.models.detector import DetectorSpec
from mdtrain.models.streams import Prediction, Student, Teacher
from mdtrain.models.weights import hash_weights
from mdtrain.recipes import baseline, distill, teacher
from mdtrain.state import TrainState, read_checkpoint, save_weights
from mdtrain.tasks import DivergedError
from tests.disk import small_disk
from tests.training.tree import write_msrs

TINY = (
    "model.widths=[8,8,16,16]",
    "model.neck=16",
    "model.tower=1",
    "model.visible=[128,96]",
    "model.thermal=[32,24]",
    "optimiser.batch_size=2",
    "optimiser.iterations=4",
    "optimiser.warmup=1",
    "evaluate_every=2",
    "precision=32-true",
    "data.sets=[msrs]",
)


def tiny(tmp_path: Path, *more: str) -> Config:
    if not (tmp_path / "data" / "msrs").exists():
        write_msrs(tmp_path / "data" / "msrs")
    return load_config(None, (*TINY, f"data.root={tmp_path / 'data'}", *more))


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_trained(folder / "weights.safetensors").model.state_dict()


def test_a_run_leaves_config_environment_scalars_and_weights(tmp_path: Path) -> None:
    result = baseline.train(tiny(tmp_path, "seed=7"), tmp_path / "run", "mdtrain train baseline")
    assert {p.name for p in result.folder.iterdir()} >= {
        "config.yaml", "environment.json", "metrics.csv", "result.json", "weights.safetensors", "checkpoints",
    }  # fmt: skip
    assert load_config(result.folder / "config.yaml").seed == 7
    assert json.loads((result.folder / "result.json").read_text())["seed"] == 7
    assert any(p.name.startswith("events.out.tfevents") for p in result.folder.iterdir())
    names = {row["name"] for row in csv.DictReader((result.folder / "metrics.csv").open())}
    assert {"val/person/ap50", "val/person/night/ap50", "minutes"} <= names


def test_teacher_then_student(tmp_path: Path) -> None:
    teacher.train(tiny(tmp_path), tmp_path / "teacher", "mdtrain")
    weights = tmp_path / "teacher" / "weights.safetensors"
    before = hash_weights(load_trained(weights, "teacher").model.state_dict())
    result = distill.train(tiny(tmp_path), weights, tmp_path / "student", "mdtrain")
    trained = load_trained(result.weights, "student")
    assert trained.facts["teacher_sha256"] == before
    assert hash_weights(load_trained(weights, "teacher").model.state_dict()) == before  # the teacher is frozen
    with pytest.raises(EngineError, match="wanted those of a teacher"):
        distill.train(tiny(tmp_path), result.weights, tmp_path / "other", "mdtrain")


@pytest.mark.slow
def test_without_transfer_weights_distillation_is_the_baseline(tmp_path: Path) -> None:
    teacher.train(tiny(tmp_path), tmp_path / "teacher", "mdtrain")
    weights = tmp_path / "teacher" / "weights.safetensors"
    distill.train(tiny(tmp_path), weights, tmp_path / "a", "mdtrain")
    distill.train(tiny(tmp_path, "distill.semantic=0", "distill.attention=0"), weights, tmp_path / "b", "mdtrain")
    baseline.train(tiny(tmp_path), tmp_path / "c", "mdtrain")
    with_transfer, without, native = (weights_of(tmp_path / run) for run in "abc")
    assert not torch.equal(with_transfer["semantic.conv1.weight"], without["semantic.conv1.weight"])
    torch.testing.assert_close(without["semantic.conv1.weight"], native["semantic.conv1.weight"])


def test_inherited_weights_see_a_grey_pair_as_the_teacher_sees_the_visible_image() -> None:
    """The halved, doubled stem gives the visible stream's maps where thermal equals each visible channel."""
    spec = DetectorSpec("resnet18", (8, 8, 16, 16), 16, 1, True, 6, 4, 3)
    teacher_net, student = Teacher(spec).eval(), Student(spec).eval()
    distill.inherit(student, teacher_net)
    grey = torch.randn(1, 1, 64, 96)
    visible = grey.expand(-1, 3, -1, -1)
    c3, joint = student.stem(student.fuse_images(visible, grey))
    wanted_c3, wanted_joint = teacher_net.visible(visible)
    torch.testing.assert_close(c3, wanted_c3)
    torch.testing.assert_close(joint, wanted_joint)
    assert torch.equal(student.head.classify.weight, teacher_net.head.classify.weight)


def test_a_run_starts_from_the_weights_of_another_of_any_size(tmp_path: Path) -> None:
    small = baseline.train(tiny(tmp_path), tmp_path / "small", "mdtrain")
    still = ("model.visible=[160,128]", "optimiser.learning_rate=1e-12", "optimiser.weight_decay=0")
    large = baseline.train(tiny(tmp_path, *still), tmp_path / "large", "mdtrain", Start(small.weights))
    before, after = weights_of(small.folder), weights_of(large.folder)
    learnt = [name for name, _ in load_trained(small.weights).model.named_parameters()]
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in learnt)
    assert load_trained(large.weights).config.model.visible == (160, 128)


@pytest.mark.parametrize(("inputs", "kept"), [("visible", slice(0, 3)), ("thermal", slice(3, 6))])
def test_a_student_of_one_camera_starts_as_that_half_of_one_of_both(tmp_path: Path, inputs: str, kept: slice) -> None:
    both = baseline.train(tiny(tmp_path), tmp_path / "both", "mdtrain")
    still = (f"inputs={inputs}", "optimiser.learning_rate=1e-12", "optimiser.weight_decay=0")
    one = baseline.train(tiny(tmp_path, *still), tmp_path / inputs, "mdtrain", Start(both.weights))
    before, after = weights_of(both.folder), weights_of(one.folder)
    torch.testing.assert_close(after["stem.conv1.weight"], before["stem.conv1.weight"][:, kept], atol=1e-5, rtol=0)
    torch.testing.assert_close(after["head.classify.weight"], before["head.classify.weight"], atol=1e-5, rtol=0)


def test_a_start_from_another_network_is_refused(tmp_path: Path) -> None:
    visible_only = baseline.train(tiny(tmp_path, "inputs=visible"), tmp_path / "visible", "mdtrain").weights
    with pytest.raises(EngineError, match=r"stem\.conv1\.weight is \(8, 3, 7, 7\), wanted \(8, 6, 7, 7\)"):
        baseline.train(tiny(tmp_path), tmp_path / "both", "mdtrain", Start(visible_only))
    with pytest.raises(EngineError, match="wanted those of a teacher"):
        teacher.train(tiny(tmp_path), tmp_path / "teacher", "mdtrain", Start(visible_only))
    assert not (tmp_path / "both").exists()


def test_the_teacher_may_have_been_trained_at_another_size(tmp_path: Path) -> None:
    teacher.train(tiny(tmp_path), tmp_path / "teacher", "mdtrain")
    larger = tiny(tmp_path, "model.visible=[160,128]", "distill.inherit=true", "distill.temperature=mean")
    result = distill.train(larger, tmp_path / "teacher" / "weights.safetensors", tmp_path / "student", "mdtrain")
    assert load_trained(result.weights, "student").config.model.visible == (160, 128)


def test_a_narrower_student_learns_through_an_adapter(tmp_path: Path) -> None:
    teacher.train(tiny(tmp_path), tmp_path / "teacher", "mdtrain")
    weights = tmp_path / "teacher" / "weights.safetensors"
    narrow = tiny(tmp_path, "model.widths=[8,8,12,16]")
    result = distill.train(narrow, weights, tmp_path / "student", "mdtrain")
    trained = load_trained(result.weights, "student")
    assert trained.config.model.imitates == 16
    assert trained.model.state_dict()["adapter.weight"].shape == (16, 12, 1, 1)


@pytest.mark.parametrize(
    ("of_teacher", "of_student", "message"),
    [
        (("model.fusion=addition",), (), r"the teacher has model\.fusion=addition"),
        (("model.fusion=decision",), (), r"the teacher has model\.fusion=decision"),
        (("model.backbone=vgg16",), (), r"the maps of the student have stride 16, those of the teacher 8"),
        (
            (),
            ("model.widths=[8,8,24,16]", "distill.inherit=true"),
            r"model\.widths is \(8, 8, 24, 16\), of the teacher",
        ),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused(
    of_teacher: tuple[str, ...], of_student: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    teacher.train(tiny(tmp_path, *of_teacher, "optimiser.iterations=1"), tmp_path / "teacher", "mdtrain")
    with pytest.raises(UsageError, match=message):
        distill.train(
            tiny(tmp_path, *of_student), tmp_path / "teacher" / "weights.safetensors", tmp_path / "s", "mdtrain"
        )
    assert not (tmp_path / "s").exists()


def test_vgg_teacher_and_student(tmp_path: Path) -> None:
    config = tiny(tmp_path, "model.backbone=vgg16", "optimiser.iterations=2", "distill.inherit=true")
    teacher.train(config, tmp_path / "teacher", "mdtrain")
    result = distill.train(config, tmp_path / "teacher" / "weights.safetensors", tmp_path / "student", "mdtrain")
    assert load_trained(result.weights, "student").config.model.backbone == "vgg16"


def test_the_loss_falls(tmp_path: Path) -> None:
    short = ("optimiser.iterations=150", "evaluate_every=150", "data.mosaic_share=0", "optimiser.learning_rate=0.003")
    result = baseline.train(tiny(tmp_path, *short), tmp_path / "run", "mdtrain")
    rows = [
        float(r["value"]) for r in csv.DictReader((result.folder / "metrics.csv").open()) if r["name"] == "train/loss"
    ]
    assert sum(rows[-3:]) < 0.8 * sum(rows[:3])


def test_resume_and_overwrite_are_checked(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no checkpoints/last\.ckpt"):
        baseline.train(tiny(tmp_path), tmp_path / "run", "mdtrain", start=Start(resume=True))
    baseline.train(tiny(tmp_path), tmp_path / "run", "mdtrain")
    with pytest.raises(UsageError, match="--resume"):
        baseline.train(tiny(tmp_path), tmp_path / "run", "mdtrain")


def test_another_configuration_is_not_continued(tmp_path: Path) -> None:
    baseline.train(tiny(tmp_path), tmp_path / "run", "mdtrain")
    with pytest.raises(UsageError, match=r"seed was 0, is 1"):
        baseline.train(tiny(tmp_path, "seed=1"), tmp_path / "run", "mdtrain", start=Start(resume=True))
    longer = baseline.train(
        tiny(tmp_path, "optimiser.iterations=6"), tmp_path / "run", "mdtrain", start=Start(resume=True)
    )
    rows = list(csv.DictReader((longer.folder / "metrics.csv").open()))
    evaluated = [row["iteration"] for row in rows if row["name"] == "val/person/ap50"]
    assert evaluated == ["2", "4", "6"]


def test_damaged_and_foreign_weights_are_refused(tmp_path: Path) -> None:
    result = baseline.train(tiny(tmp_path), tmp_path / "run", "mdtrain")
    checkpoint = result.folder / "checkpoints" / "last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(EngineError, match=r"last\.ckpt"):
        baseline.train(tiny(tmp_path), tmp_path / "run", "mdtrain", start=Start(resume=True))
    result.weights.write_bytes(result.weights.read_bytes()[:500])
    with pytest.raises(EngineError, match="safetensors"):
        load_trained(result.weights)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.ckpt"
    torch.save({"model": Path("x")}, path)  # any class that is no tensor needs code to load
    with pytest.raises(EngineError, match="not a readable checkpoint of tensors: damaged, or it asks for code"):
        read_checkpoint(path)


def test_a_full_disk_leaves_the_older_checkpoint(tmp_path: Path) -> None:
    place = tmp_path / "run" / "checkpoints" / "last.ckpt"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"older")
    state = TrainState(nn.Linear(100, 100), tiny(tmp_path))
    with (
        small_disk(20_000),
        pytest.raises(OutputError, match=r"last\.ckpt: cannot be written \(File too large\); make room"),
    ):
        state.save(place)
    assert [path.name for path in place.parent.iterdir()] == ["last.ckpt"]
    assert place.read_bytes() == b"older"
    with small_disk(20_000), pytest.raises(OutputError, match=r"weights\.safetensors: cannot be written"):
        save_weights(tmp_path / "weights.safetensors", nn.Linear(100, 100), tiny(tmp_path), "student", {})
    assert not list(tmp_path.glob("*weights*"))


@pytest.mark.parametrize("task", ["detect", "segment"])
@pytest.mark.parametrize(
    ("teacher_has", "way_out"),
    [
        ("model.size=nano", "--set model.size=nano, or "),
        ("model.widths=[8,8,16,16]", ""),  # no size that has a name
    ],
)
def test_a_student_that_inherits_is_offered_its_teachers_size(task: str, teacher_has: str, way_out: str) -> None:
    settings = (f"task={task}", "distill.inherit=true")
    student, taught = load_config(None, settings), load_config(None, (*settings, teacher_has))
    with pytest.raises(UsageError, match=rf"of the teacher [^;]*; {way_out}--set distill\.inherit=false$"):
        distill._fit(student, taught)


@pytest.mark.parametrize(("precision", "more"), [("bf16-mixed", " or try precision=32-true"), ("32-true", "")])
def test_a_loss_that_is_not_finite_stops_with_the_batch_saved(precision: str, more: str, tmp_path: Path) -> None:
    wild = ("optimiser.name=sgd", "optimiser.learning_rate=1e20", "optimiser.warmup=0", "optimiser.clip_norm=1e30")
    config = tiny(tmp_path, *wild, "optimiser.iterations=50", "evaluate_every=50", f"precision={precision}")
    with pytest.raises(DivergedError, match=rf"diverged_batch.*; lower optimiser\.learning_rate{more}$"):
        baseline.train(config, tmp_path / "run", "mdtrain")
    assert (tmp_path / "run" / "diverged_batch.pt").exists()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 360000000000 bytes. Error 12"),
    ],
)
@pytest.mark.parametrize(("fits", "said"), [(2, "batch_size=8 does not fit.*, 2 does"), (0, "take a smaller one")])
def test_a_batch_that_does_not_fit_ends_with_one_that_does(
    tmp_path: Path, fits: int, said: str, error: RuntimeError
) -> None:
    """A device of little memory, played by a recipe: no CUDA device is needed to try the search."""
    config = tiny(tmp_path, "optimiser.batch_size=8")
    recipe = baseline.make(config)

    def losses(model: nn.Module, batch: Batch) -> tuple[Prediction, dict[str, torch.Tensor]]:
        if len(batch.visible) > fits:
            raise error
        return recipe.losses(model, batch)

    with pytest.raises(UsageError, match=said):
        loop.run(config, recipe._replace(losses=losses), tmp_path / "run", "mdtrain")


def test_a_run_of_an_earlier_version_can_be_continued(tmp_path: Path) -> None:
    """Its checkpoint knows nothing of tasks; they have their defaults."""
    run = baseline.train(tiny(tmp_path, "optimiser.iterations=2"), tmp_path / "run", "mdtrain")
    path = run.folder / "checkpoints" / "last.ckpt"
    data = read_checkpoint(path)
    config = json.loads(data["config"])
    del config["task"], config["model"]["decoder"], config["optimiser"]["class_weights"]
    torch.save(data | {"config": json.dumps(config)}, path)
    longer = tiny(tmp_path, "optimiser.iterations=3")
    result = baseline.train(longer, tmp_path / "run", "mdtrain", start=Start(resume=True))
    assert json.loads((result.folder / "result.json").read_text())["iterations"] == 3


def test_the_draft_manifest_says_what_the_run_knows(tmp_path: Path) -> None:
    result = baseline.train(tiny(tmp_path, "name=tiny"), tmp_path / "run", "mdtrain train baseline --x")
    trained = load_trained(result.weights)
    draft: Manifest = draft_manifest(trained.config, trained.model.state_dict(), trained.facts)
    assert draft.name == "tiny"
    assert draft.needs == ["visible", "thermal"]
    assert draft.inputs["thermal"].width == 32
    assert draft.origin.command == "mdtrain train baseline --x"
    assert draft.origin.licence.startswith("research use only: MSRS")
    assert draft.parity is None
