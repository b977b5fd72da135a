"""Every kind of mistake in a rig file, each with a real file: place, key, what was got, what was wanted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, get_args

import pytest
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import core_schema

from mdrun.cli import cli
from mdrun.command import run_command
from mdrun.errors import RigError
from mdrun.problems import WANTED, find_problems, in_one_line
from mdrun.rig.config import read_rigs

GOOD = """\
rig: gate
cameras:
  cam0:
    source: "test://street"
    role: visible
    timeout_s: 5
  cam1:
    source: "test://street"
    role: thermal
    bad_pixels: [[3, 4]]
calibration: gate_calibration.yaml
ladder:
  engines: [md-r18-slim]
  back_after: 3
  require_verified: false
tracking:
  least_hits: 2
  zones:
    yard: {points: [[0, 0], [1, 1]]}
  alarms: [{on: enter, place: yard}]
outputs: [runs/gate]
"""

MISTAKES = {
    "missing": ("    role: visible\n", "", "3: cameras.cam0.role is missing, wanted visible or thermal"),
    "missing in a list": ("[3, 4]", "[3]", "10: cameras.cam1.bad_pixels.0 is [3], wanted a list of 2"),
    "extra, mistyped": ("least_hits", "least_hit", "17: tracking.least_hit is unknown, did you mean least_hits?"),
    "extra, of nothing near": (
        "  back_after: 3",
        "  speed: 3",
        "14: ladder.speed is unknown, wanted one of engines, back_after, threads, require_verified, strange",
    ),
    "mistyped and therefore missing": (
        "role: visible",
        "rol: visible",
        "5: cameras.cam0.rol is unknown, did you mean role?",
    ),
    "string_type": (
        'source: "test://street"\n    role: v',
        "source: 3\n    role: v",
        "4: cameras.cam0.source is 3, wanted text",
    ),
    "nothing": ("rig: gate", "rig:", "1: rig is empty, wanted text"),
    "string_too_short": (
        'source: "test://street"\n    role: v',
        "source: ''\n    role: v",
        "4: cameras.cam0.source is '', wanted text that is not empty",
    ),
    "a name": (
        "rig: gate",
        "rig: a/b",
        "1: rig: 'a/b' is no name, wanted 1 to 64 of A-Z a-z 0-9 _ . - that begin with a letter or digit",
    ),
    "the name of a camera": (
        "  cam0:",
        "  cam 0:",
        "3: cameras: 'cam 0' is no name, wanted 1 to 64 of A-Z a-z 0-9 _ . - that begin with a letter or digit",
    ),
    "a number as name": ("  cam0:", "  0:", "3: cameras.0 is 0, wanted text"),
    "invalid_key": ("rig: gate", "1: gate", "1: the key 1 is no text, put it in quotes"),
    "float_type": ("timeout_s: 5", "timeout_s: [5]", "6: cameras.cam0.timeout_s is [5], wanted a number"),
    "float_parsing": ("timeout_s: 5", "timeout_s: soon", "6: cameras.cam0.timeout_s is 'soon', wanted a number"),
    "finite_number": (
        "tracking:",
        "pairing: {skew_ms: .nan}\ntracking:",
        "16: pairing.skew_ms is nan, wanted a finite number",
    ),
    "int_type": ("back_after: 3", "back_after: [3]", "14: ladder.back_after is [3], wanted a whole number"),
    "int_parsing": ("back_after: 3", "back_after: three", "14: ladder.back_after is 'three', wanted a whole number"),
    "int_from_float": ("back_after: 3", "back_after: 3.5", "14: ladder.back_after is 3.5, wanted a whole number"),
    "bool_type": ("verified: false", "verified: [no]", "15: ladder.require_verified is ['no'], wanted true or false"),
    "bool_parsing": (
        "verified: false",
        "verified: maybe",
        "15: ladder.require_verified is 'maybe', wanted true or false",
    ),
    "literal_error": (
        "role: visible",
        "role: visable",
        "5: cameras.cam0.role is 'visable', wanted 'visible' or 'thermal'",
    ),
    "greater_than": ("timeout_s: 5", "timeout_s: 0", "6: cameras.cam0.timeout_s is 0, wanted more than 0"),
    "greater_than_equal": ("back_after: 3", "back_after: 0", "14: ladder.back_after is 0, wanted at least 1"),
    "less_than_equal": ("timeout_s: 5", "timeout_s: 500", "6: cameras.cam0.timeout_s is 500, wanted at most 300"),
    "less_than": (
        "    bad_pixels: [[3, 4]]",
        "    normalise: {low_percent: 50}",
        "10: cameras.cam1.normalise.low_percent is 50, wanted less than 50",
    ),
    "list_type": ("outputs: [runs/gate]", "outputs: runs/gate", "21: outputs is 'runs/gate', wanted a list"),
    "tuple_type": ("[3, 4]", "3", "10: cameras.cam1.bad_pixels.0 is 3, wanted a list"),
    "too_short": (
        "[[0, 0], [1, 1]]",
        "[[0, 0]]",
        "19: tracking.zones.yard.points is [[0, 0]], wanted a list of at least 2",
    ),
    "too_long": ("[3, 4]", "[3, 4, 5]", "10: cameras.cam1.bad_pixels.0 is [3, 4, 5], wanted a list of at most 2"),
    "model_type": (
        "  yard: {points: [[0, 0], [1, 1]]}",
        "  yard: 3",
        "19: tracking.zones.yard is 3, wanted keys and values",
    ),
    "dict_type": (
        "  zones:\n    yard: {points: [[0, 0], [1, 1]]}",
        "  zones: 3",
        "18: tracking.zones is 3, wanted keys and values",
    ),
    "path_type": ("calibration: gate_calibration.yaml", "calibration: 3", "11: calibration is 3, wanted a path"),
    "value_error": (
        "role: visible",
        "role: thermal",
        "2: cameras: the roles are thermal, thermal, wanted one visible and at most one thermal",
    ),
    "value_error of a group": (
        "place: yard",
        "place: yart",
        "16: tracking: alarms name yart, which zones does not have",
    ),
    "no YAML": ("[runs/gate]", "[runs/gate", "22: cannot be read as YAML: expected ',' or ']', but got '<stream end>'"),
    "a key twice": ("outputs: [runs/gate]", "rig: yard", "21: cannot be read as YAML: the key rig is there twice"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_a_rig_file(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, said = MISTAKES[name]
    assert old in GOOD
    path = tmp_path / "gate.yaml"
    path.write_text(GOOD.replace(old, new, 1))
    assert run_command(cli, "mdrun", ["--rig", str(path), "--validate-config"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"mdrun: error: {path}:{said} [MDR-210]"


def test_the_file_of_these_tests_has_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "gate.yaml").write_text(GOOD)
    (rig,) = read_rigs(tmp_path / "gate.yaml")
    assert rig.rig == "gate"


def test_several_come_in_the_order_of_the_lines(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text("outputs: 3\ncameras:\n  cam0: {role: visable}\nrig: 3\n")
    with pytest.raises(RigError) as caught:
        read_rigs(path)
    assert str(caught.value) == (
        f"{path}:1: outputs is 3, wanted a list; line 3: cameras.cam0.source is missing, wanted text; "
        "line 3: cameras.cam0.role is 'visable', wanted 'visible' or 'thermal'; line 4: rig is 3, wanted text"
    )
    path.write_text("")
    with pytest.raises(RigError, match=r"gate\.yaml: cameras is missing, wanted keys and values$"):
        read_rigs(path)


def test_a_value_is_shown_short_and_without_credentials(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(f'cameras: {{a: {{source: ["rtsp://u:hunter2@h/{"x" * 200}"], role: visible}}}}\n')
    with pytest.raises(RigError) as caught:
        read_rigs(path)
    assert "hunter2" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 140


def test_every_template_is_of_an_error_that_pydantic_has() -> None:
    of_a_path = {"path_type"}  # which pydantic makes itself, above its core
    assert set(WANTED) - of_a_path <= set(get_args(core_schema.ErrorType))


def test_what_no_table_knows_is_said_in_the_validators_words() -> None:
    class Odd(BaseModel):
        when: Annotated[bytes, Field(max_length=1)] | None = None

    with pytest.raises(ValidationError) as caught:
        Odd.model_validate({"when": 3})
    text = in_one_line(find_problems(Odd, caught.value))
    assert re.fullmatch("when is 3, wanted a valid bytes", text)
