from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mdrun.errors import UsageError
from mdrun.strict import key_lines
from mdtrain.commands.train import CONFIGS
from mdtrain.config import Config, load_config
from mdtrain.state import learning_rate


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_configs_are_valid_and_say_how_to_run(path: Path) -> None:
    load_config(path, ("data.street=runs/street",))  # segmenters have nothing else by default
    head = path.read_text().split("\nname:")[0]
    assert "# Needs:" in head
    assert "# Run:" in head


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("seed: 3\noptimiser:\n  iterations: 10\n")
    config = load_config(file, ("optimiser.iterations=20", "data.sets=[msrs]"))
    assert (config.seed, config.optimiser.iterations, config.data.sets) == (3, 20, ["msrs"])


def test_one_set_judges_or_several_together() -> None:
    assert load_config(None).data.validation_name == "msrs-fusion_val"
    one = load_config(None, ("data.validation=street", "data.street=runs/street"))
    assert one.data.validation_name == "street_val"
    both = load_config(None, ("data.validation=[msrs, street]", "data.street=runs/street"))
    assert both.data.validation_name == "msrs-fusion+street_val"
    visible = load_config(None, ("data.labels=visible", "data.validation=[msrs,kaist]"))
    assert visible.data.validation_name == "msrs-visible+kaist-sanitized_val"  # of other labels, not to be compared
    for wrong in ("[]", "[msrs, cityscapes]", "[street]"):  # the last one: no street was given
        with pytest.raises(UsageError, match="validation"):
            load_config(None, (f"data.validation={wrong}",))


def test_all_problems_come_in_one_error(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("sed: 3\noptimiser:\n  iterations: 0\nmodel:\n  visible: [100, 96]\n")
    with pytest.raises(UsageError) as caught:
        load_config(file)
    text = str(caught.value)
    for part in (
        "c.yaml",
        "c.yaml:1: sed is unknown, did you mean seed?",
        "line 3: optimiser.iterations is 0, wanted at least 1",
        "line 5: model.visible",
        "100x96",
        "multiples of 32",
    ):
        assert part in text


def test_problems_of_an_override_are_told_from_those_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("seed: -3\nmodel: {widths: [1, 2]}\n")
    with pytest.raises(UsageError) as caught:
        load_config(file, ("optimiser.iterations=0", "data.sets=[msrs, cityscapes]"))
    text = str(caught.value)
    for part in ("c.yaml:1: seed", "line 2: model.widths", "optimiser.iterations (--set)", "data.sets.1 (--set)"):
        assert part in text


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("model.visible=[0,0]", "model.visible.0"),
        ("model.visible=[-32,-32]", "model.visible.1"),
        ("model.thermal=[0,0]", "model.thermal.0"),
        ("model.widths=[0,0,0,0]", "model.widths.3"),
        ("model.imitates=0", "model.imitates"),
        ("seed=99999999999999999999", "seed"),  # more than torch takes
    ],
)
def test_sizes_that_no_network_has(override: str, key: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(CONFIGS / "student.yaml", (override, "optimiser.iterations=0"))
    assert f"{key} (--set)" in str(caught.value)
    assert "optimiser.iterations (--set)" in str(caught.value)  # all problems in one error
    assert str(caught.value).startswith("configuration: ")  # the file is not at fault


def test_a_group_that_overrides_made_wrong_does_not_blame_the_shipped_file() -> None:
    with pytest.raises(UsageError, match=r"^configuration: data: .*nothing to learn from"):
        load_config(CONFIGS / "student.yaml", ("data.sets=[]",))


def test_a_shipped_file_is_named_without_the_folders_of_this_machine() -> None:
    with pytest.raises(UsageError) as caught:
        load_config(CONFIGS / "none.yaml")
    assert str(caught.value).startswith("mdtrain/configs/none.yaml: ")


@given(st.recursive(st.integers(), lambda inner: st.dictionaries(st.text("abc", min_size=1), inner, max_size=4)))
def test_every_key_has_the_line_it_stands_on(data: object) -> None:
    text = yaml.safe_dump(data)
    for place, line in key_lines(text).items():
        key, separator, _ = text.splitlines()[line - 1].strip().partition(":")
        assert separator
        assert key.strip("'\"") == place.rpartition(".")[2]


@pytest.mark.parametrize("override", ["seed", "seed.deep=3", "optimiser.nothing=1", "seed=-1", "model.widths=[1,2"])
def test_odd_overrides_are_refused(override: str) -> None:
    with pytest.raises(UsageError):
        load_config(None, ("seed=1", override))


def test_a_file_that_is_not_yaml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("a: [1")
    with pytest.raises(UsageError, match="YAML"):
        load_config(tmp_path / "c.yaml")
    (tmp_path / "latin.yaml").write_bytes("name: k\u00f6ln".encode("latin-1"))
    with pytest.raises(UsageError, match=r"latin\.yaml: cannot be read as YAML"):
        load_config(tmp_path / "latin.yaml")
    with pytest.raises(UsageError, match=r"missing\.yaml"):
        load_config(tmp_path / "missing.yaml")


def test_a_size_that_is_no_name_is_one_line() -> None:
    with pytest.raises(UsageError, match=r"model\.size"):
        load_config(None, ("model.size=[r18]",))


def test_learning_rate_warms_up_peaks_and_ends_at_zero() -> None:
    optimiser = Config().optimiser
    rates = [learning_rate(i, optimiser) for i in range(optimiser.iterations + 1)]
    assert rates[0] == pytest.approx(1e-6)
    assert max(rates) == pytest.approx(optimiser.learning_rate)
    assert rates.index(max(rates)) == optimiser.warmup
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)
