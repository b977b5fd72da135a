"""Running `mdtrain eval` in tests, and what a refusal looks like."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mdrun.command import run_command
from mdtrain.commands.evaluate import evaluate


@dataclass(frozen=True)
class Outcome:
    """What one command gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # whatever was printed
        return json.loads(self.out)


class Eval:
    """Runs `mdtrain eval` as the console script would."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str | Path) -> Outcome:
        code = run_command(evaluate, "mdtrain eval", [str(argument) for argument in arguments])
        return Outcome(code, *self._capsys.readouterr())


def refused(outcome: Outcome, code: int, *said: str) -> None:
    """One line on stderr, nothing on stdout, the documented exit code."""
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (code, "", 1), outcome
    for words in said:
        assert words in outcome.err
