"""Several processes share a training: real ones, over gloo on the loopback interface."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mdrun.errors import UsageError
from mdtrain.build import load_trained
from mdtrain.config import load_config
from mdtrain.data.augment import Sizes
from mdtrain.data.batches import TrainingBatches
from mdtrain.data.sets.msrs import read_msrs
from mdtrain.data.street_set import write_street_set
from mdtrain.models.weights import hash_weights
from mdtrain.recipes import teacher
from mdtrain.state import read_checkpoint
from tests.training.test_recipes import TINY
from tests.training.test_segment import SEGMENT, config_of
from tests.training.test_train_cli import flags
from tests.training.tree import write_msrs

MDTRAIN = "from mdtrain.cli import main; main()"
# trains as `mdtrain` would, then writes down what this process holds
HASHES = """
import sys
from pathlib import Path
from mdtrain.config import load_config
from mdtrain.contract import hash_weights
from mdtrain.loop import prepare
from mdtrain.recipes import baseline

config = load_config(None, tuple(sys.argv[2:]))
session = prepare(config, baseline.make(config))
for batch in session.draw(3):
    session.step(batch, Path(sys.argv[1]))
rank = session.fabric.global_rank
weights = hash_weights(dict(session.state.model.named_parameters()))
Path(sys.argv[1], f"{rank}.txt").write_text(f"{session.fabric.world_size} {weights}")
"""

# runs a recipe to its end, then writes down what this process's average holds; the teacher, if any, comes second
TRAINS = """
import sys
from pathlib import Path
from mdtrain import loop
from mdtrain.config import load_config
from mdtrain.models.weights import hash_weights
from mdtrain.recipes import baseline, distill

sessions = []
prepare = loop.prepare

def kept(*arguments):
    sessions.append(prepare(*arguments))
    return sessions[-1]

loop.prepare = kept
folder, teacher = Path(sys.argv[1]), sys.argv[2]
config = load_config(None, tuple(sys.argv[3:]))
if teacher == "none":
    start = loop.Start(resume=(folder / loop.CHECKPOINT).exists())
    result = baseline.train(config, folder, "mdtrain", start)
else:
    result = distill.train(config, Path(teacher), folder, "mdtrain")
(session,) = sessions
rank = session.fabric.global_rank
weights = hash_weights(dict(session.state.average.named_parameters()))
folder.with_name(f"{folder.name}.{rank}").write_text(f"{session.fabric.world_size} {result.first} {weights}")
"""

# the first process dies without a word at its third step, after the checkpoint of the second
KILLED = """
import os, signal
from mdtrain import loop

step, steps = loop.Session.step, []

def killed(session, *arguments):
    steps.append(1)
    if len(steps) == 3 and session.fabric.is_global_zero:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(session, *arguments)

loop.Session.step = killed
"""

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
ALONE: list[str] = []  # the command as typed: it starts the other processes itself


def start(launcher: list[str], code: str, arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(code)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, *launcher, str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)


def test_shares_of_a_batch_make_the_batch(tmp_path: Path) -> None:
    records = read_msrs(write_msrs(tmp_path), "train")

    def samples(share: tuple[int, int]) -> list[np.ndarray]:
        batches = TrainingBatches(
            records, Sizes((96, 64), (24, 16)), 4, 3, mosaic_until=9, mosaic_share=0.5, share=share
        )
        return [sample.visible for sample in batches.samples(5)]

    whole, first, second = samples((0, 1)), samples((0, 2)), samples((1, 2))
    for got, wanted in zip([first[0], second[0], first[1], second[1]], whole, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(UsageError, match=r"batch_size \(--set\) is 5, wanted a multiple of the 2 processes"):
        load_config(None, ("devices=2", "optimiser.batch_size=5"))


@pytest.mark.slow
def test_two_processes_hold_the_same_weights_after_learning_from_different_samples(tmp_path: Path) -> None:
    data = write_msrs(tmp_path / "data" / "msrs").parent
    settings = [*TINY, f"data.root={data}", "devices=2", "accelerator=cpu"]
    done = start(TORCHRUN, HASHES, [str(tmp_path), *settings], tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = ((tmp_path / f"{rank}.txt").read_text().split() for rank in (0, 1))
    assert first == second
    assert first[0] == "2"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [TORCHRUN, ALONE], ids=["torchrun", "alone"])
def test_a_run_of_two_processes_writes_its_files_once(launcher: list[str], tmp_path: Path) -> None:
    """The command line itself, under torchrun and by itself."""
    data, run = write_msrs(tmp_path / "data" / "msrs").parent, tmp_path / "run"
    settings = flags(*TINY, "devices=2", "accelerator=cpu")
    done = start(
        launcher, MDTRAIN, ["train", "baseline", "--data", str(data), "--output", str(run), *settings], tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("AP50") == 1
    rows = [row for row in csv.DictReader((run / "metrics.csv").open()) if row["name"] == "val/person/ap50"]
    assert [row["iteration"] for row in rows] == ["2", "4"]
    weights = load_trained(run / "weights.safetensors").model.state_dict()
    assert all(torch.isfinite(value.float()).all() for value in weights.values())


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("street")
    for _ in write_street_set(folder, scenes=4, seed=3, validation=1):
        pass
    return folder


def train_two(run: Path, teacher_weights: Path | None, *settings: str) -> str:
    """Train in two processes; gives the hash of the weights, which are those of both and of the first one's file."""
    arguments = [str(run), str(teacher_weights or "none"), *settings, "devices=2", "accelerator=cpu"]
    done = start(TORCHRUN, TRAINS, arguments, run.parent)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (run.with_name(f"{run.name}.{rank}").read_text().split() for rank in (0, 1))
    written = hash_weights(dict(load_trained(run / "weights.safetensors").model.named_parameters()))
    assert first == ["2", "True", written]
    assert second == ["2", "False", written]
    return written


@pytest.mark.slow
def test_two_processes_continue_a_killed_run_to_the_same_bits(tmp_path: Path) -> None:
    """Gloo adds two gradients, whose sum knows no order; the sampler, the schedule and the average go on."""
    data = write_msrs(tmp_path / "data" / "msrs").parent
    settings = [*TINY, f"data.root={data}", "optimiser.batch_size=4"]
    whole = train_two(tmp_path / "whole", None, *settings)
    run = tmp_path / "killed"
    arguments = [str(run), "none", *settings, "devices=2", "accelerator=cpu"]
    assert start(TORCHRUN, KILLED + TRAINS, arguments, tmp_path).returncode != 0
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["iteration"] == 2
    assert not (run / "weights.safetensors").exists()
    assert train_two(run, None, *settings) == whole
    ends = [load_trained(folder / "weights.safetensors").model.state_dict() for folder in (tmp_path / "whole", run)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])  # running norms too


def segments(street: Path) -> list[str]:
    return [*SEGMENT, f"data.street={street}", "optimiser.batch_size=4", "optimiser.iterations=2"]


@pytest.mark.slow
def test_two_processes_train_a_segmenter_with_weighted_classes(street: Path, tmp_path: Path) -> None:
    """Each counts the pixels of all pairs, not of its share, and each has pairs enough for its norms."""
    assert "optimiser.class_weights=enet" in segments(street)
    train_two(tmp_path / "run", None, *segments(street))
    assert (tmp_path / "run" / "result.json").exists()


@pytest.mark.slow
def test_two_processes_share_the_answers_of_their_teacher(street: Path, tmp_path: Path) -> None:
    """A second run of both reads what the first has written, and learns the same."""
    taught = teacher.train(config_of(street, "optimiser.iterations=1"), tmp_path / "teacher", "mdtrain").weights
    cache = tmp_path / "cache"
    settings = (*segments(street), "data.mosaic_share=0", f"distill.cache={cache}")
    written = train_two(tmp_path / "first", taught, *settings)
    answers = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert len(answers) == 2 * 2  # iterations, and a half of each one's batch
    assert all(name.endswith(".safetensors") and not name.startswith(".") for name in answers)
    assert train_two(tmp_path / "second", taught, *settings) == written
    assert {path.name: path.stat().st_mtime_ns for path in cache.iterdir()} == answers


@pytest.mark.slow
def test_a_process_that_diverges_ends_all(tmp_path: Path) -> None:
    """Without an agreement the others would wait for its gradients until they time out."""
    data = write_msrs(tmp_path / "data" / "msrs").parent
    wild = ("optimiser.name=sgd", "optimiser.learning_rate=1e20", "optimiser.warmup=0", "optimiser.clip_norm=1e30")
    settings = flags(*TINY, *wild, "optimiser.iterations=50", "evaluate_every=50", "devices=2", "accelerator=cpu")
    arguments = ["train", "baseline", "--data", str(data), "--output", str(tmp_path / "run"), *settings]
    done = start(ALONE, MDTRAIN, arguments, tmp_path)
    assert done.returncode == 1
    assert "not finite" in done.stderr
    assert not (tmp_path / "run" / "weights.safetensors").exists()
