from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mdtrain.build import build_teacher, load_trained
from mdtrain.config import load_config
from mdtrain.data.batches import Batch
from mdtrain.models.streams import Teacher
from mdtrain.recipes import distill, teacher
from mdtrain.teaching import TeacherCache, ask
from tests.training.test_recipes import TINY, tiny


def small_teacher() -> Teacher:
    torch.manual_seed(0)
    network = build_teacher(load_config(None, TINY)).eval()
    assert isinstance(network, Teacher)
    return network


def small_batch(seed: int = 0) -> Batch:
    torch.manual_seed(seed)
    return Batch(torch.randn(2, 3, 96, 128), torch.randn(2, 1, 96, 128), torch.randn(2, 1, 24, 32), [], [])


def test_an_answer_is_asked_for_once(tmp_path: Path) -> None:
    network, batch = small_teacher(), small_batch()
    cache = TeacherCache(tmp_path / "cache", "sha", "32-true")
    first = cache.ask(network, batch)
    for parameter in network.parameters():
        parameter.data.zero_()  # another answer would be seen
    again = cache.ask(network, batch)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_half_precision_is_all_that_is_lost() -> None:
    network, batch = small_teacher(), small_batch()
    with torch.no_grad():
        _, fused, _ = network.fuse(batch.visible, batch.thermal_full)
    answer = ask(network, batch)
    assert answer.fused.dtype == torch.float32
    torch.testing.assert_close(answer.fused, fused, rtol=1e-3, atol=1e-6)


def test_with_and_without_a_cache_the_answer_is_the_same(tmp_path: Path) -> None:
    """So a run may be continued with the other."""
    network, batch = small_teacher(), small_batch()
    cache = TeacherCache(tmp_path, "sha", "32-true")
    for kept in (cache.ask(network, batch), cache.ask(network, batch)):
        assert all(torch.equal(a, b) for a, b in zip(kept, ask(network, batch), strict=True))


def test_other_pairs_teachers_and_precisions_have_their_own_answers(tmp_path: Path) -> None:
    network = small_teacher()
    TeacherCache(tmp_path, "sha", "32-true").ask(network, small_batch())
    TeacherCache(tmp_path, "sha", "32-true").ask(network, small_batch(1))
    TeacherCache(tmp_path, "other", "32-true").ask(network, small_batch())
    TeacherCache(tmp_path, "sha", "bf16-mixed").ask(network, small_batch())
    assert len(list(tmp_path.iterdir())) == 4


def test_the_thermal_size_of_the_student_does_not_matter(tmp_path: Path) -> None:
    network, batch = small_teacher(), small_batch()
    cache = TeacherCache(tmp_path, "sha", "32-true")
    cache.ask(network, batch)
    cache.ask(network, replace(batch, thermal_low=torch.randn(2, 1, 12, 16)))
    assert len(list(tmp_path.iterdir())) == 1


def test_a_damaged_answer_is_asked_for_again(tmp_path: Path) -> None:
    network, batch = small_teacher(), small_batch()
    cache = TeacherCache(tmp_path, "sha", "32-true")
    first = cache.ask(network, batch)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert torch.equal(cache.ask(network, batch).fused, first.fused)
    assert torch.equal(cache.ask(network, batch).fused, first.fused)


def test_a_place_that_cannot_be_written_costs_one_warning(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    cache = TeacherCache(tmp_path / "file" / "cache", "sha", "32-true")
    answers = [cache.ask(small_teacher(), small_batch()) for _ in range(2)]
    assert torch.equal(answers[0].fused, answers[1].fused)
    (line,) = capfd.readouterr().err.splitlines()
    assert "teacher's outputs are not kept any more" in line


@pytest.mark.slow
def test_two_thermal_sizes_share_a_cache_and_repeat_to_the_same_bits(tmp_path: Path) -> None:
    weights = teacher.train(tiny(tmp_path), tmp_path / "teacher", "mdtrain").weights
    cache = f"distill.cache={tmp_path / 'cache'}"
    found = []
    for run, thermal in (("a", "[32,24]"), ("b", "[32,24]"), ("c", "[16,12]")):
        config = tiny(tmp_path, cache, f"model.thermal={thermal}", "data.coarser_share=0")
        trained = load_trained(distill.train(config, weights, tmp_path / run, "mdtrain").weights)
        found.append(trained.model.state_dict())
        assert len(list((tmp_path / "cache").iterdir())) == 4  # one an iteration, of the first run
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert any(not torch.equal(found[0][name], found[2][name]) for name in found[0])
