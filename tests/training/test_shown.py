"""Tables of `mdtrain` and `mdexport` in terminals of any width."""

from __future__ import annotations

import pytest
from rich.console import Console

from mdtrain.commands import shown
from mdtrain.commands.shown import print_table, print_turned

COLUMNS = ["engine", "person/ap50", "person/detection_rate", "verdict"]
ROWS = [[f"student_{name}.onnx", "0.7583", "0.4919", "passed"] for name in ("fp32", "fp16", "int8")]


@pytest.fixture
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    wide = int(request.param)
    monkeypatch.setattr(shown, "_console", lambda: Console(width=wide))
    return wide


@pytest.mark.parametrize("width", [160, 80, 60, 45], indirect=True)
def test_no_number_is_cut_at_any_width(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    print_turned("three engines", COLUMNS, ROWS)
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= width
    assert said.count("three engines") == 1
    for row in ROWS:
        assert row[0] in said
    assert [said.count(cell) for cell in ROWS[0][1:]] == [3, 3, 3]
    turned = [line for line in said.splitlines() if "person/ap50" in line and "0.7583" in line]
    assert bool(turned) is (width < 80)


@pytest.mark.parametrize("width", [100], indirect=True)
def test_long_words_do_not_turn_a_table(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    print_turned("one engine", COLUMNS, [[*ROWS[0][:-1], "accepted: a demo for " + "people " * 20]])
    lines = capsys.readouterr().out.splitlines()
    assert any("person/ap50" in line and "verdict" in line for line in lines)


@pytest.mark.parametrize("width", [160], indirect=True)
def test_brackets_are_words(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    print_table("of [note]", ["a [b]"], [["see [/x] a [note] there"]])
    said = capsys.readouterr().out
    for words in ("of [note]", "a [b]", "see [/x] a [note] there"):
        assert words in said


@pytest.mark.parametrize("width", [20], indirect=True)
def test_without_rows_the_title_is_there(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    print_turned("no engine", COLUMNS, [])
    assert "no engine" in capsys.readouterr().out
