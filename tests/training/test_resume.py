"""A training that is interrupted, by whatever: what it leaves goes on to what it would have become."""

from __future__ import annotations

import csv
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mdrun.command import run_command
from mdrun.errors import EngineError, OutputError, UsageError
from mdtrain import loop
from mdtrain.build import WEIGHTS, load_trained
from mdtrain.cli import mdtrain
from mdtrain.config import load_config
from mdtrain.data.records import PROBES
from mdtrain.interrupts import Keeper
from mdtrain.loop import CHECKPOINT, Start
from mdtrain.recipes import baseline, distill, teacher
from mdtrain.runlog import RunLog
from mdtrain.state import TrainState, check_same_run, read_checkpoint
from mdtrain.tasks import DivergedError
from tests.disk import small_disk
from tests.training.test_recipes import TINY, tiny, weights_of
from tests.training.test_train_cli import flags
from tests.training.tree import NAMES, write_msrs


def judged_at(folder: Path) -> list[str]:
    rows = csv.DictReader((folder / "metrics.csv").open())
    return [row["iteration"] for row in rows if row["name"] == "val/person/ap50"]


@pytest.mark.parametrize(
    ("method", "call", "iteration", "unjudged"),
    [("validate", 1, 2, True), ("step", 4, 2, False), ("validate", 2, 4, True)],
)
def test_a_killed_run_continues_to_the_same_bits(
    method: str, call: int, iteration: int, unjudged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the middle of an evaluation, which the continued run makes up for."""
    config, run = tiny(tmp_path), tmp_path / "killed"
    baseline.train(config, tmp_path / "whole", "mdtrain")
    whole, calls = getattr(loop.Session, method), []

    def killed(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(loop.Session, method, killed)
    with pytest.raises(KeyboardInterrupt):
        baseline.train(config, run, "mdtrain")
    monkeypatch.undo()
    kept = read_checkpoint(run / CHECKPOINT)
    assert (kept["iteration"], kept["unjudged"]) == (iteration, unjudged)
    baseline.train(config, run, "mdtrain", start=Start(resume=True))
    before, after = weights_of(tmp_path / "whole"), weights_of(run)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert judged_at(run) == judged_at(tmp_path / "whole") == ["2", "4"]
    assert not read_checkpoint(run / CHECKPOINT)["unjudged"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(("step", "unjudged"), [(1, False), (2, True), (3, False)])
def test_an_interrupted_run_keeps_the_step_it_is_in(
    number: signal.Signals, code: int, step: int, unjudged: bool, tmp_path: Path, whole_run: Path, ended: Ended
) -> None:
    """To the same bits as one that was never interrupted."""
    run = tmp_path / "run"
    assert ended(whole_run.parent, run, number, step) == (
        code,
        f"mdtrain: error: interrupted; the checkpoint of iteration {step} is kept, go on with --resume "
        "(a sweep: by the same command)",
    )
    kept = read_checkpoint(run / CHECKPOINT)
    assert (kept["iteration"], kept["unjudged"]) == (step, unjudged)
    assert run_command(mdtrain, "mdtrain", [*call(whole_run.parent, run), "--resume"]) == 0
    before, after = weights_of(whole_run), weights_of(run)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert judged_at(run) == ["2", "4"]


def test_a_run_that_is_interrupted_before_its_first_step_ends(tmp_path: Path, ended: Ended) -> None:
    tiny(tmp_path)
    told = "mdtrain: error: interrupted; no checkpoint yet, start again"
    assert ended(tmp_path, tmp_path / "run", signal.SIGTERM, 0) == (143, told)
    assert not (tmp_path / "run" / CHECKPOINT).exists()


def test_a_full_disk_keeps_the_older_checkpoint_of_an_interrupted_run(tmp_path: Path, whole_run: Path) -> None:
    state = TrainState(nn.Linear(100, 100), tiny(whole_run.parent))
    state.iteration = 1
    state.save(tmp_path / "last.ckpt")
    state.iteration = 2
    stop = KeyboardInterrupt()
    with small_disk(20_000), pytest.raises(KeyboardInterrupt), Keeper(state, tmp_path / "last.ckpt", alone=True):
        raise stop
    assert stop.__notes__[0].startswith("the checkpoint of iteration 1 is kept")
    assert read_checkpoint(tmp_path / "last.ckpt")["iteration"] == 1


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    tiny(folder)
    assert run_command(mdtrain, "mdtrain", call(folder, folder / "run")) == 0
    return folder / "run"


def call(folder: Path, run: Path) -> list[str]:
    return ["train", "baseline", "--data", str(folder / "data"), "--output", str(run), *flags(*TINY)]


Ended = Callable[[Path, Path, signal.Signals, int], tuple[int, str]]


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Ended:
    """How a training ends whose process gets a signal in a step, or before the first one (0)."""

    def end(data: Path, run: Path, number: signal.Signals, step: int) -> tuple[int, str]:
        whole, draw = loop.Session.step, loop.Session.draw

        def signalled(session: loop.Session, *arguments: Any) -> Any:
            if session.state.iteration == step - 1:
                os.kill(os.getpid(), number)
            return whole(session, *arguments)

        def drawn(session: loop.Session, last: int) -> Any:
            if not step:
                os.kill(os.getpid(), number)
            return draw(session, last)

        monkeypatch.setattr(loop.Session, "step", signalled)
        monkeypatch.setattr(loop.Session, "draw", drawn)
        code = run_command(mdtrain, "mdtrain", call(data, run), clears_up=True)
        monkeypatch.undo()
        return code, capfd.readouterr().err.splitlines()[-1]

    return end


def test_a_damaged_validation_image_costs_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every second pair is opened before; this is one of the others."""
    monkeypatch.chdir(tmp_path)
    lists = NAMES | {"val": [f"{index:05d}D" for index in range(10, 11 + PROBES)]}
    image = write_msrs(tmp_path / "data" / "msrs", (64, 48), lists) / "ir" / "00011D.jpg"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    arguments = ["train", "baseline", "--data", "data", "--output", "run", *flags(*TINY)]
    assert run_command(mdtrain, "mdtrain", arguments) == 4
    (line,) = capfd.readouterr().err.splitlines()
    assert "00011D.jpg" in line
    assert "the steps so far are kept, go on with --resume" in line
    assert read_checkpoint(tmp_path / "run" / CHECKPOINT)["iteration"] == 2
    image.write_bytes(whole)
    assert run_command(mdtrain, "mdtrain", [*arguments, "--resume"]) == 0
    assert judged_at(tmp_path / "run") == ["2", "4"]


def test_a_damaged_training_image_names_the_command_that_lists_all(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every second pair is opened before; these are the others."""
    lists = NAMES | {"train": [f"{index:05d}D" for index in range(10, 11 + PROBES)]}
    root = write_msrs(tmp_path / "data" / "msrs", (64, 48), lists)
    for index in range(11, 11 + PROBES, 2):
        (root / "ir" / f"{index:05d}D.jpg").write_bytes(b"\xff\xd8 cut off")
    arguments = ["train", "baseline", "--data", str(tmp_path / "data"), "--output", str(tmp_path / "run")]
    assert run_command(mdtrain, "mdtrain", [*arguments, *flags(*TINY)]) == 4
    (line,) = capfd.readouterr().err.splitlines()
    assert "the image is truncated" in line
    assert "`mdtrain data check` on its set lists all such files" in line


def test_weights_that_are_not_finite_do_not_replace_a_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A norm that learns from its batch has a finite loss, whatever its running statistics are."""
    step = loop.Session.step

    def broken(session: loop.Session, *arguments: Any) -> Any:
        values = step(session, *arguments)
        if session.state.iteration == 4:
            session.state.average.state_dict()["stem.bn1.running_var"].fill_(torch.inf)
        return values

    monkeypatch.setattr(loop.Session, "step", broken)
    with pytest.raises(DivergedError, match="NaN or infinity; lower"):
        baseline.train(tiny(tmp_path), tmp_path / "run", "mdtrain")
    assert read_checkpoint(tmp_path / "run" / CHECKPOINT)["iteration"] == 2


def test_a_checkpoint_of_an_earlier_version_is_not_judged_again(tmp_path: Path) -> None:
    """It was saved after its evaluation, and does not say so."""
    config = tiny(tmp_path, "optimiser.iterations=2")
    run = baseline.train(config, tmp_path / "run", "mdtrain").folder
    data = read_checkpoint(run / CHECKPOINT)
    del data["unjudged"]
    torch.save(data, run / CHECKPOINT)
    baseline.train(config, run, "mdtrain", start=Start(resume=True))
    assert judged_at(run) == ["2"]


def broken_average(data: dict[str, Any]) -> dict[str, Any]:
    return data | {"average": {name: value * torch.nan for name, value in data["average"].items()}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda data: data["model"],
            "no checkpoint of a run: lacks model, lacks average, .*lacks config; wanted",
        ),
        (lambda data: [1, 2], "holds a list, wanted the run's own"),
        (lambda data: data | {"iteration": "4"}, "no checkpoint of a run: iteration is a str; wanted"),
        (lambda data: data | {"model": {"a": 1}}, "no checkpoint of a run: model holds more than tensors; wanted"),
        (lambda data: data | {"optimiser": {}}, r"its optimiser is not that of the run \('param_groups'\), wanted"),
        (lambda data: data | {"optimiser": {"state": {}, "param_groups": []}}, "its optimiser is not that of the run"),
        (broken_average, r"last\.ckpt: NaN or infinity in stem\.conv1\.weight and \d+ more, wanted finite weights"),
    ],
)
def test_an_odd_checkpoint_is_refused_with_what_it_lacks(
    change: Callable[[dict[str, Any]], Any], said: str, tmp_path: Path, finished: Path
) -> None:
    path = tmp_path / "last.ckpt"
    torch.save(change(read_checkpoint(finished / CHECKPOINT)), path)
    config = tiny(finished.parent)
    state = TrainState(baseline.make(config).model, config)
    with pytest.raises(EngineError, match=f"{said}.*copy .*again"):
        state.load(path)


def test_an_empty_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").touch()
    with pytest.raises(EngineError, match=r"readable checkpoint of tensors \(it is empty\); wanted the run's own"):
        read_checkpoint(tmp_path / "last.ckpt")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    return baseline.train(tiny(folder), folder / "run", "mdtrain").folder


@pytest.mark.slow
def test_a_run_goes_on_under_its_own_teacher_alone(tmp_path: Path) -> None:
    """A half-distilled student passes neither for another teacher's nor for a native one."""
    short = "optimiser.iterations=1"
    for seed in (0, 1):
        teacher.train(tiny(tmp_path, short, f"seed={seed}"), tmp_path / f"teacher-{seed}", "mdtrain")
    first, second = (tmp_path / f"teacher-{seed}" / WEIGHTS for seed in (0, 1))
    run, resume = tmp_path / "run", Start(resume=True)
    facts = load_trained(distill.train(tiny(tmp_path, short), first, run, "mdtrain").weights).facts
    with pytest.raises(UsageError, match=f"teacher_sha256 was {facts['teacher_sha256'][:12]}, is [0-9a-f]{{12}};"):
        distill.train(tiny(tmp_path, short), second, run, "mdtrain", start=resume)
    with pytest.raises(UsageError, match=r"teacher_sha256 was .*, is none;"):
        baseline.train(tiny(tmp_path, short), run, "mdtrain", start=resume)
    assert (
        load_trained(distill.train(tiny(tmp_path, short), first, run, "mdtrain", start=resume).weights).facts[
            "teacher_sha256"
        ]
        == facts["teacher_sha256"]
    )


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ({}, {}, None),
        ({"backbone_sha256": "a" * 64}, {}, None),  # a continued run does not name them again
        ({"backbone_sha256": "a" * 64}, {"backbone_sha256": "a" * 64}, None),
        ({"backbone_sha256": "a" * 64}, {"backbone_sha256": "b" * 64}, f"was {'a' * 12}, is {'b' * 12};"),
        ({}, {"backbone_sha256": "b" * 64}, "backbone_sha256 was none, is b"),
        ({}, {"teacher_sha256": "b" * 64}, "teacher_sha256 was none, is b"),
        ({"teacher_sha256": "a" * 64, "backbone_sha256": "c"}, {}, "teacher_sha256 was a+, is none; continue"),
    ],
)
def test_what_a_run_began_with_stays_with_it(
    before: dict[str, str], now: dict[str, str], told: str | None, tmp_path: Path
) -> None:
    config, path = tiny(tmp_path), tmp_path / "last.ckpt"
    model = baseline.make(config).model
    TrainState(model, config, before).save(path)
    continued = TrainState(model, config, now)
    if told is None:
        continued.load(path)
        assert continued.origin == before
    else:
        with pytest.raises(UsageError, match=told):
            continued.load(path)


def test_a_run_is_not_made_shorter_than_it_is(tmp_path: Path) -> None:
    config, path = tiny(tmp_path), tmp_path / "last.ckpt"
    state = TrainState(baseline.make(config).model, config)
    state.iteration = 4
    state.save(path)
    state.load(path)
    shorter = tiny(tmp_path, "optimiser.iterations=3")
    with pytest.raises(UsageError, match="has done 4 iterations, wanted 3; ask for as many"):
        TrainState(baseline.make(shorter).model, shorter).load(path)


def test_a_disk_without_room_for_the_first_checkpoint(tmp_path: Path) -> None:
    """There is nothing to go on from."""
    state = TrainState(baseline.make(tiny(tmp_path)).model, tiny(tmp_path))
    with small_disk(20_000), pytest.raises(OutputError, match=r"make room, and start again$"):
        state.save(tmp_path / "last.ckpt")


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path, finished: Path) -> None:
    """A continued run writes its log anew, which no refusal may empty."""
    shutil.copytree(finished, run := tmp_path / "run")
    with (run / "metrics.csv").open("a", newline="") as log:
        log.write("4,train/loss,0.5\r\n" * 500)  # longer than the other two
    names = ("metrics.csv", "config.yaml", "environment.json")
    before = {name: (run / name).read_bytes() for name in names}
    for most, name in ((50, "config.yaml"), (len(before["metrics.csv"]) - 1, "metrics.csv")):
        refused = rf"{name}: cannot be written \(File too large\); make room, and go on with --resume$"
        with small_disk(most), pytest.raises(OutputError, match=refused):
            RunLog(run, tiny(finished.parent, "data.lists={}"), 4, run / CHECKPOINT)
        assert {name: (run / name).read_bytes() for name in names} == before
    with RunLog(run, tiny(finished.parent), 4, run / CHECKPOINT):
        pass
    assert (run / "metrics.csv").read_bytes() == before["metrics.csv"]


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)  # TensorBoard's writer, full as well
@pytest.mark.parametrize(("kept", "way_out"), [(True, "go on with --resume"), (False, "start again")])
def test_a_disk_that_is_full_in_the_middle_of_a_run(kept: bool, way_out: str, tmp_path: Path) -> None:
    """The line that was cut off is none of those that a continued run keeps."""
    checkpoint, rows = tmp_path / "last.ckpt", tmp_path / "metrics.csv"
    if kept:
        checkpoint.touch()
    refused = rf"metrics\.csv: cannot be written \(File too large\); make room, and {way_out}$"
    log = RunLog(tmp_path, tiny(tmp_path), 0, checkpoint)
    log.scalars(1, {"train/loss": 0.25})
    with small_disk(rows.stat().st_size + 30):
        with pytest.raises(OutputError, match=refused) as caught:
            log.scalars(2, {"train/loss": 0.125, "train/other": 0.5})
        log.__exit__(OutputError, caught.value, None)
    with RunLog(tmp_path, tiny(tmp_path), 2, checkpoint):
        assert rows.read_bytes() == b"iteration,name,value\r\n1,train/loss,0.25\r\n2,train/loss,0.125\r\n"


def test_a_list_that_is_named_is_the_one_that_is_not(tmp_path: Path) -> None:
    """`train` is the default of every set."""
    plain = load_config(None).model_dump(mode="json")
    named = load_config(None, ("data.lists={msrs: train}",)).model_dump(mode="json")
    other = load_config(None, ("data.lists={msrs: more}",)).model_dump(mode="json")
    check_same_run(plain, named, tmp_path)
    check_same_run(named, plain, tmp_path)
    with pytest.raises(UsageError, match=r"data\.lists\.msrs was None, is more"):
        check_same_run(plain, other, tmp_path)


def test_a_run_that_began_with_nesterov_goes_on_so(tmp_path: Path) -> None:
    """SGD of earlier versions; what has been begun keeps its momentum and its rule."""
    config = load_config(None, ("optimiser.name=sgd",))
    before, after = (TrainState(nn.Linear(2, 3), config) for _ in range(2))
    for group in before.optimiser.param_groups:
        group["nesterov"] = True
    for _ in range(2):
        before.model(torch.ones(1, 2)).sum().backward()
        before.step()
    before.save(tmp_path / "last.ckpt")
    after.load(tmp_path / "last.ckpt")
    assert after.iteration == 2
    assert all(group["nesterov"] for group in after.optimiser.param_groups)
    for state in (before, after):
        state.model(torch.ones(1, 2)).sum().backward()
        state.step()
    torch.testing.assert_close(dict(after.model.named_parameters()), dict(before.model.named_parameters()))
