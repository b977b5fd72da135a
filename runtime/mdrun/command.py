"""What the three command lines share: one-line errors and documented exit codes."""

from __future__ import annotations

import atexit
import errno
import importlib
import io
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from types import FrameType
from typing import Any, NoReturn

import click

from mdrun.errors import MdrunError, OutputError, UsageError
from mdrun.signals import ECHO_S

OUT_OF_SPACE = {errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG}  # only writing fails so
SIGNALLED = 128  # shells add the signal's number
INTERRUPTED = SIGNALLED + signal.SIGINT
INTERNAL = 70  # EX_SOFTWARE of sysexits.h
NO_ARGUMENTS: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())  # click before 8.2 shows the help by itself
DEBUG = "MDRUN_DEBUG"  # set: a mistake of ours shows its traceback


class Terminated(BaseException):
    """SIGTERM or SIGHUP, as KeyboardInterrupt is SIGINT: whatever is on the way out clears up."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class LazyGroup(click.Group):
    """A group whose rarer commands are imported when they are called: help and mistakes answer at once."""

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str, str]] | None = None, **kwargs: Any) -> None:
        """`lazy`: by command, its module, the name there, and the line of help."""
        super().__init__(*args, **kwargs)
        self._lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, sorted."""
        return sorted({*super().list_commands(ctx), *self._lazy})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in self._lazy:
            return super().get_command(ctx, cmd_name)
        module, name, _ = self._lazy[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The lines of help, without importing anything."""
        rows = []
        for name in self.list_commands(ctx):
            known = self._lazy.get(name)
            command = None if known else self.get_command(ctx, name)
            rows.append((name, known[2] if known else command.get_short_help_str(80) if command else ""))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def run_command(
    command: click.Command, program: str, arguments: Sequence[str] | None = None, *, clears_up: bool = False
) -> int:
    """Run a click command; turn every foreseen failure into one line on stderr and an exit code.

    Args:
        command: the command or group.
        program: name shown to the user.
        arguments: command line without the program; None takes the process's own.
        clears_up: SIGTERM and SIGHUP end it as SIGINT does, and nothing half-written is left; only in the main thread.

    Returns:
        Exit code as in docs/errors.md.
    """
    _replace_unknown_characters()
    try:
        with _raising() if clears_up else nullcontext():
            outcome = command.main(args=arguments, prog_name=program, standalone_mode=False)
    except Terminated as stop:
        return _fail(program, _interrupted(stop), SIGNALLED + stop.number)
    except click.Abort as stop:  # click's word for KeyboardInterrupt
        return _fail(program, _interrupted(stop.__cause__), INTERRUPTED)
    except NO_ARGUMENTS as error:
        click.echo(error.format_message(), err=True)
        return UsageError.exit_code
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else program
        return _fail(
            program, f"{error.format_message()} See `{path} --help`. [{UsageError.code}]", UsageError.exit_code
        )
    except MdrunError as error:
        return _fail(program, f"{error} [{error.code}]", error.exit_code)
    except KeyboardInterrupt as stop:
        return _fail(program, _interrupted(stop), INTERRUPTED)
    except BrokenPipeError:  # `mdrun info … | head` is no error
        sys.stderr.close()
        return 0
    except ModuleNotFoundError as error:
        return _fail(program, _not_installed(program, error), MdrunError.exit_code)
    except OSError as error:  # no permission, file gone, disk full: the system's own words name the file
        kind = OutputError if error.errno in OUT_OF_SPACE else MdrunError
        return _fail(program, f"{error} [{kind.code}]", kind.exit_code)
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        what = f"{type(error).__name__}: {error}"
        return _fail(program, f"a mistake of ours: {what}; {DEBUG}=1 shows where, please report it", INTERNAL)
    return outcome if isinstance(outcome, int) else 0


def _replace_unknown_characters() -> None:
    """A terminal of another encoding shows a replacement, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


@contextmanager
def _raising() -> Iterator[None]:
    """While entered, the first SIGTERM or SIGHUP is raised as Terminated, and a later one ends the process at once.

    What is ignored (`nohup`) stays so.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    first_s: float | None = None

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal first_s
        if first_s is None:
            first_s = time.monotonic()
            raise Terminated(number)
        if time.monotonic() - first_s > ECHO_S:
            os._exit(SIGNALLED + number)

    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave(code: int) -> NoReturn:
    """End the process, without Python's own clearing up where a thread of ours is still at work.

    A daemon thread that meets the end of Python on its way back from C++ is unwound there, and OpenCV's bindings abort
    the process at that: exit code 134 in the place of the documented one.
    """
    if any(thread.daemon for thread in threading.enumerate()):
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # a pipe that nobody reads any more, or a closed stream
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _not_installed(program: str, error: ModuleNotFoundError) -> str:
    extra = {"mdtrain": "train", "mdexport": "export"}.get(program, "cpu")
    return f'{program} wants {error.name}, which is not installed; pip install "mdrun[{extra}]" (in a clone: make test)'


def _interrupted(stop: BaseException | None) -> str:
    """With the notes of what has cleared up, such as what it has kept."""
    return "; ".join(["interrupted", *getattr(stop, "__notes__", [])])


def warn(program: str, message: str) -> None:
    """One line on stderr for what a user should know although the command goes on."""
    _say(program, "warning", message)


def _fail(program: str, message: str, code: int) -> int:
    _say(program, "error", message)
    return code


def _say(program: str, kind: str, message: str) -> None:
    line = " ".join(message.split())
    print(f"{program}: {kind}: {line}", file=sys.stderr)  # noqa: T201  # the one place that reports errors
