"""A training that is interrupted keeps the steps that are whole, and says what is kept."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType

from mdrun.command import Terminated
from mdrun.errors import MdrunError
from mdrun.signals import held
from mdtrain.state import TrainState
from mdtrain.tasks.base import refuse_infinite


class Keeper:
    """While entered, an interruption leaves a checkpoint of the last whole step, and a note for the user.

    Of several processes only those checkpoints are kept that the evaluations leave: a process that waits for the end of
    its step would wait for ever for one that has gone.
    """

    def __init__(self, state: TrainState, checkpoint: Path, *, alone: bool) -> None:
        """`alone`: there is one process."""
        self._state, self._checkpoint, self._alone = state, checkpoint, alone
        self._whole = True
        self._started = time.perf_counter() - 60 * state.minutes

    @property
    def minutes(self) -> float:
        """How long the run has taken, with its earlier parts."""
        return (time.perf_counter() - self._started) / 60

    @contextmanager
    def step(self) -> Iterator[None]:
        """One step and its line of the log: a signal waits for their end, a second one ends the process at once."""
        with held() if self._alone else nullcontext():
            self._whole = False
            yield
            self._whole = True

    def __enter__(self) -> Keeper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt | Terminated):
            with held() if self._alone else nullcontext():  # one press may come twice, from a shell and its wrapper
                with suppress(MdrunError):  # no room, or weights that are not finite: the older one is kept
                    self._keep()
                error.add_note(self._told())

    def _keep(self) -> None:
        """Steps behind the last checkpoint; the evaluation that is due there is made up for."""
        state = self._state
        if not (self._alone and self._whole) or (state.saved or 0) >= state.iteration:
            return
        refuse_infinite([*state.average.state_dict().values()])
        state.unjudged, state.minutes = state.due, self.minutes
        state.save(self._checkpoint)

    def _told(self) -> str:
        saved = self._state.saved
        if saved is None:
            return "no checkpoint yet, start again"
        return f"the checkpoint of iteration {saved} is kept, go on with --resume (a sweep: by the same command)"
