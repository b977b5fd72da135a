"""Codes and exit codes: one each, and all of them documented."""

from __future__ import annotations

import re
from pathlib import Path

from mdrun import errors
from mdrun.errors import MdrunError, from_code

DOCS = Path(__file__).resolve().parents[2] / "docs" / "errors.md"


def kinds() -> list[type[MdrunError]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MdrunError)]


def test_every_class_has_a_code_of_its_own_that_begins_with_its_exit_code() -> None:
    codes = [kind.code for kind in kinds()]
    assert len(set(codes)) == len(codes)
    assert all(kind.code.startswith(f"MDR-{kind.exit_code}") for kind in kinds())


def test_the_documentation_names_every_code_with_its_class_and_no_other() -> None:
    rows = dict(re.findall(r"^\| `(MDR-\d+)` \| `(\w+)`", DOCS.read_text(encoding="utf-8"), re.MULTILINE))
    assert rows == {kind.code: kind.__name__ for kind in kinds()}


def test_a_code_gives_its_error_back() -> None:
    for kind in kinds():
        error = from_code(kind.code, "words")
        assert type(error) is kind
        assert str(error) == "words"
    assert type(from_code("MDR-999", "words")) is MdrunError
