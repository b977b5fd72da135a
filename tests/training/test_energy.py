"""Identities of the free energy and of what judges it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mdtrain.metrics.energy import energy_threshold, separation
from mdtrain.models.energy import free_energy

ENERGIES = st.lists(st.integers(-50, 50), min_size=1, max_size=30)


def test_equal_logits_give_minus_log_of_the_classes() -> None:
    assert free_energy(torch.zeros(2, 9, 3, 4)).tolist() == pytest.approx([-math.log(9)] * 2)


def test_a_constant_on_all_logits_lowers_the_energy_by_it() -> None:
    logits = torch.randn(2, 9, 3, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(free_energy(logits + 2.5), free_energy(logits) - 2.5)


def test_a_pair_of_one_place_is_its_own_mean() -> None:
    """The same energy for a classifier's logits and for a map of a single place."""
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(free_energy(logits), free_energy(logits[:, :, None, None]))
    assert free_energy(torch.zeros(2, 4)).tolist() == pytest.approx([-math.log(4)] * 2)


def test_one_class_alone_is_its_logit() -> None:
    logits = torch.tensor([1.0, 3.0]).reshape(1, 1, 1, 2)
    assert free_energy(logits).item() == pytest.approx(-2.0)


def test_apart_and_alike() -> None:
    assert separation([0, 1, 2], [5, 6]) == (1.0, 0.0)
    assert separation([5, 6], [0, 1]) == (0.0, 1.0)
    assert separation([1, 1], [1, 1]) == (0.5, 1.0)


def test_known_answer() -> None:
    """Of the six pairs (strange, familiar) four are in order and one is equal."""
    assert separation([1, 3], [3, 2, 4]).auroc == pytest.approx(4.5 / 6)


@given(ENERGIES, ENERGIES, st.integers(-20, 20))
def test_only_the_order_matters(familiar: list[int], strange: list[int], shift: int) -> None:
    there, back = separation(familiar, strange), separation(strange, familiar)
    assert there.auroc + back.auroc == pytest.approx(1)
    moved = separation([e + shift for e in familiar], [e + shift for e in strange])
    assert moved.auroc == there.auroc


def test_the_threshold_passes_95_percent() -> None:
    energies = np.arange(1000.0)
    assert (energies <= energy_threshold(energies)).mean() == pytest.approx(0.95, abs=0.001)
