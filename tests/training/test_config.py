from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mdrun.errors import UsageError
from mdrun.strict import key_lines
from mdtrain.build import build_teacher
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
    with pytest.raises(
        UsageError, match=r"^configuration: data\.sets \(--set\) is \[\], wanted something to learn from"
    ):
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


def refusal(file: Path | None, *overrides: str) -> str:
    """What is said about a wrong configuration: always one line."""
    with pytest.raises(UsageError) as caught:
        load_config(file, overrides)
    (line,) = str(caught.value).splitlines()
    return line


def test_a_group_that_is_a_value_hides_nothing(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("distill: 3\nseed: -1\n")
    said = f"{file}:1: distill is 3, wanted keys and values; line 2: seed is -1, wanted at least 0"
    assert refusal(file) == said
    assert refusal(file, "distill.cache=null") == said  # as --dry-run adds it
    file.write_text("name: x\nseed: -1\n")
    said = f"{file}:2: seed is -1, wanted at least 0; name.first (--set): name is a value, not a group of keys"
    assert refusal(file, "name.first=x") == said


def test_all_odd_overrides_come_in_one_error() -> None:
    line = refusal(None, "seed=1", "seed.deep=3", "devices", "model.widths=[1,2", "name=2026-13-45", "nodes=0")
    for part in (
        "configuration: nodes (--set) is 0",
        "seed.deep (--set): seed is a value, not a group of keys",
        "devices (--set): wanted key=value",
        "model.widths (--set) is '[1,2', wanted a value in YAML",
        "name (--set) is '2026-13-45', wanted a value in YAML",
    ):
        assert part in line


def test_an_unknown_group_of_an_override_is_not_the_fault_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("optimiser:\n  iterations: 3\n")
    assert refusal(file, "foo.bar=1").startswith("configuration: foo (--set) is unknown")
    assert refusal(file, "optimiser.foo=1").startswith("configuration: optimiser.foo (--set) is unknown")
    file.write_text("foo:\n  bar: 3\n")
    assert refusal(file, "foo.baz=1").startswith(f"{file}:1: foo is unknown")


def test_keys_that_do_not_go_together_come_in_one_error_with_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("task: segment\nmodel:\n  backbone: vgg16\n  widths: [8, 8, 8, 9]\noptimiser:\n  batch_size: 1\n")
    line = refusal(file, "devices=2")
    for part in (
        f"{file}:3: model.backbone is 'vgg16', wanted resnet18 with task=segment",
        "line 4: model.widths is [8, 8, 8, 9], wanted a multiple of 4 at the end",
        "line 6: optimiser.batch_size is 1, wanted a multiple of the 2 processes",
        "line 6: optimiser.batch_size is 1, wanted at least 2 pairs a process",
    ):
        assert part in line
    assert "optimiser.batch_size (--set) is 1" in refusal(file, "optimiser.batch_size=1")


@pytest.mark.parametrize(
    ("key", "least"),
    [
        ("optimiser.learning_rate", "more than 0"),
        ("optimiser.weight_decay", "at least 0"),
        ("optimiser.clip_norm", "more than 0"),
        ("distill.attention", "at least 0"),
        ("distill.semantic", "at least 0"),
    ],
)
def test_numbers_are_finite(key: str, least: str) -> None:
    assert refusal(None, f"{key}=.inf") == f"configuration: {key} (--set) is inf, wanted a finite number"
    assert refusal(None, f"{key}=-1") == f"configuration: {key} (--set) is -1, wanted {least}"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("data.sets=[msrs]", "data.lists={msrs: val}"), "data.lists.msrs (--set) is 'val', wanted a list that"),
        (
            ("data.sets=[roadscene]", "data.validation=roadscene", "data.validation_list=train"),
            "data.validation_list (--set) is 'train', wanted a list that roadscene does not learn from",
        ),
        (
            ("data.street=s", "data.validation=[msrs,street]", "data.lists.msrs=other", "data.validation_list=train"),
            "data.validation_list (--set) is 'train', wanted a list that street does not learn from",
        ),
        (
            ("data.sets=[llvip]", "data.validation=llvip", "data.lists.llvip=test"),  # its val is its test
            "data.lists.llvip (--set) is 'test', wanted a list that does not judge: data.validation_list is val",
        ),
        (("data.sets=[msrs,msrs]",), "data.sets (--set) is ['msrs', 'msrs'], wanted each set once"),
        (("data.validation=[msrs,msrs]",), "data.validation (--set) is ['msrs', 'msrs'], wanted each set once"),
    ],
)
def test_pairs_that_would_be_taken_twice(overrides: tuple[str, ...], said: str) -> None:
    assert refusal(None, *overrides).startswith(f"configuration: {said}")


@pytest.mark.parametrize(
    "overrides",
    [
        ("data.sets=[msrs]", "data.validation=roadscene", "data.validation_list=train"),  # its only list
        ("data.sets=[kaist]", "data.validation=kaist", "data.lists.kaist=train-all-02", "data.validation_list=train"),
        ("data.lists={msrs: val}", "data.sets=[msrs,kaist]", "data.validation=kaist"),
        ("data.lists={kaist: val}", "data.validation=kaist"),  # which is not learnt from
    ],
)
def test_lists_of_other_pairs_may_judge(overrides: tuple[str, ...]) -> None:
    load_config(None, overrides)


def test_a_finished_run_that_judged_itself_can_still_be_read() -> None:
    data = Config().model_dump(mode="json")
    data["data"] |= {"sets": ["msrs", "msrs"], "validation_list": "train"}
    assert Config.model_validate_json(json.dumps(data)).data.validation_list == "train"


@pytest.mark.parametrize(
    ("settings", "size", "fits"),
    [
        (("task=detect", "model.levels=4"), (64, 64), False),
        (("task=detect", "model.levels=4"), (96, 64), True),
        (("task=detect", "model.levels=5"), (128, 128), False),
        (("task=detect", "model.levels=5"), (128, 160), True),
        (("task=classify", "data.classes=[day,night]", "data.mosaic_share=0"), (32, 32), False),
        (("task=classify", "data.classes=[day,night]", "data.mosaic_share=0"), (64, 32), True),
        (("task=classify", "data.classes=[a,b]", "data.mosaic_share=0", "model.backbone=vgg16"), (32, 32), True),
        (("task=segment", "data.sets=[mfnet]"), (320, 256), False),
    ],
)
def test_one_pair_is_a_batch_where_every_norm_sees_more_than_one_place(
    settings: tuple[str, ...], size: tuple[int, int], fits: bool
) -> None:
    """As the network itself has it: torch refuses to normalise one value a channel."""
    small = ("model.widths=[8,8,8,8]", "model.neck=8", "model.decoder=8", f"model.visible=[{size[0]},{size[1]}]")
    network = build_teacher(load_config(None, (*settings, *small))).train()
    pair = torch.randn(1, 3, size[1], size[0]), torch.randn(1, 1, size[1], size[0])
    if fits:
        load_config(None, (*settings, *small, "optimiser.batch_size=1"))
        network(*pair)
        return
    line = refusal(None, *settings, *small, "optimiser.batch_size=1")
    assert "optimiser.batch_size (--set) is 1, wanted at least 2 pairs a process" in line
    load_config(None, (*settings, *small, "optimiser.batch_size=1", "quantise=cpu"))  # norms are frozen there
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        network(*pair)


def test_a_size_that_is_no_name_is_one_line() -> None:
    with pytest.raises(UsageError, match=r"model\.size"):
        load_config(None, ("model.size=[r18]",))


def test_learning_rate_warms_up_peaks_and_ends_where_it_began() -> None:
    optimiser = Config().optimiser
    rates = [learning_rate(i, optimiser) for i in range(optimiser.iterations + 1)]
    assert rates[0] == pytest.approx(1e-6)
    assert max(rates) == pytest.approx(optimiser.learning_rate)
    assert rates.index(max(rates)) == optimiser.warmup
    assert rates[-1] == pytest.approx(1e-6)
