"""What the three command lines share: signals that clear up, codes of mistakes in the command line."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click
import pytest

from mdrun.command import run_command
from mdrun.files import PartialFolder
from mdrun.signals import held

SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def command(work: Callable[[], None]) -> click.Command:
    return click.Command("work", callback=work)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_a_command_that_clears_up(
    number: signal.Signals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        folder = PartialFolder(tmp_path / "bundle")
        try:
            folder.part.mkdir()
            os.kill(os.getpid(), number)
            pytest.fail("went on")
        finally:
            os.kill(os.getpid(), number)  # `timeout` and terminals signal the process and its group
            folder.discard()

    before = [signal.getsignal(one) for one in SIGNALS]
    assert run_command(command(work), "mdexport", [], clears_up=True) == 128 + number
    assert capsys.readouterr().err == "mdexport: error: interrupted\n"
    assert list(tmp_path.iterdir()) == []
    assert [signal.getsignal(one) for one in SIGNALS] == before


def test_what_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
    try:
        hang_up = command(lambda: os.kill(os.getpid(), signal.SIGHUP))
        assert run_command(hang_up, "mdexport", [], clears_up=True) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_mistake_in_the_command_line_has_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(command(lambda: None), "mdrun", ["--bogus"]) == 2
    assert capsys.readouterr().err.endswith("See `mdrun --help`. [MDR-200]\n")


@pytest.mark.parametrize("number", [signal.SIGINT, *SIGNALS])
def test_a_signal_in_a_library_that_swallows_it_ends_the_command_after_the_call(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    """TensorRT's logger is called back by the library, which takes the exception for the logger's own."""
    done: list[str] = []

    def work() -> None:
        with held():
            with suppress(BaseException):
                os.kill(os.getpid(), number)
            done.append("built")
        done.append("written")

    assert run_command(command(work), "mdexport", [], clears_up=True) == 128 + number
    assert done == ["built"]
    assert capsys.readouterr().err.strip() == "mdexport: error: interrupted"


def test_nothing_is_held_where_nothing_came() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, *SIGNALS)]
    with held():
        assert signal.getsignal(signal.SIGINT) is not before[0]
        assert signal.getsignal(signal.SIGTERM) is before[1] is signal.SIG_DFL
    assert [signal.getsignal(number) for number in (signal.SIGINT, *SIGNALS)] == before


def test_without_arguments_there_is_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    group = click.Group("mdexport", no_args_is_help=True, help="Turns checkpoints into engines.")
    assert run_command(group, "mdexport", []) == 2
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("Usage: mdexport")
    assert "  Turns checkpoints into engines." in told
