"""Turns at an engine that several rigs share: who waits while it is busy is served together.

Nobody waits for company: a pair that finds the engine free runs at once and alone. Whoever comes meanwhile queues, and
the first of the queue runs the next batch for all of them, as many as the engine takes at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter_ns

from mdrun.backends.base import Inputs, Outputs
from mdrun.engine import since

RunBatch = Callable[[Sequence[Inputs]], list[Outputs]]


@dataclass(eq=False)
class Turn:
    """One pair that waits, and what became of it.

    Attributes:
        inputs: of the engine; untouched until the turn is over.
        outputs: of the engine; None before.
        error: in their place.
        infer_ms: that the batch took.
    """

    inputs: Inputs
    outputs: Outputs | None = None
    error: BaseException | None = None
    infer_ms: float = 0.0

    @property
    def over(self) -> bool:
        """It has its outputs or its error."""
        return self.outputs is not None or self.error is not None


class Turns:
    """First come, first served, in batches. Used by one thread a rig.

    Attributes:
        most: pairs in a batch.
    """

    def __init__(self, run: RunBatch, most: int) -> None:
        """`run`: the engine's; gives outputs that no later call overwrites. Never called twice at once."""
        self.most = most
        self._run = run
        self._waiting: deque[Turn] = deque()
        self._busy = False
        self._changed = threading.Condition()

    def infer(self, inputs: Inputs) -> tuple[Outputs, float]:
        """Outputs of one pair, and how long the engine took for its batch in milliseconds.

        Raises:
            MdrunError: what the engine raises, in every rig of the batch.
        """
        turn = Turn(inputs)
        if batch := self._await(turn):
            self._serve(batch)
        if turn.error is not None:
            raise turn.error
        assert turn.outputs is not None  # noqa: S101  # a turn is over when it has either
        return turn.outputs, turn.infer_ms

    def alone(self, work: Callable[[], object]) -> None:
        """Do something with the engine while nobody runs it."""
        with self._changed:
            self._changed.wait_for(lambda: not self._busy)
            work()

    def _await(self, turn: Turn) -> list[Turn]:
        """Queue until the turn is over, or leads: then the batch to be served."""
        with self._changed:
            self._waiting.append(turn)
            try:
                self._changed.wait_for(lambda: turn.over or (not self._busy and self._waiting[0] is turn))
            except BaseException:  # Ctrl-C in a main thread that waits: the others must not wait for it
                if turn in self._waiting:
                    self._waiting.remove(turn)
                self._changed.notify_all()
                raise
            if turn.over:
                return []
            self._busy = True
            return [self._waiting.popleft() for _ in range(min(self.most, len(self._waiting)))]

    def _serve(self, batch: list[Turn]) -> None:
        outputs: list[Outputs] = []
        error: BaseException | None = None
        start = perf_counter_ns()
        try:
            outputs = self._run([turn.inputs for turn in batch])
        except BaseException as caught:  # raised again in each thread
            error = caught
        took_ms = since(start)
        with self._changed:
            for index, turn in enumerate(batch):
                turn.infer_ms, turn.error = took_ms, error
                turn.outputs = None if error is not None else outputs[index]
            self._busy = False
            self._changed.notify_all()
