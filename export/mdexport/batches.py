"""Scenes of a verdict, some alone and some together, for a graph whose first dimension has a name.

A server gives such a graph many pairs at once. A graph may be right for one pair and give every pair of a batch the
results of the first, so a verdict on pairs alone would say nothing about how it is served.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from mdrun.backends.base import Feeds, Outputs, split, stack
from mdrun.backends.ort import library_errors, words_of
from mdrun.errors import EngineError

TOGETHER = 3  # pairs: the first, one between and the last
T = TypeVar("T")


def in_batches(items: Sequence[T], *, together: bool = True) -> Iterator[Sequence[T]]:
    """One alone, the next TOGETHER at once, and so on; the last may be fewer. All alone without `together`."""
    start, size = 0, 1
    while start < len(items):
        yield items[start : start + size]
        start += size
        size = TOGETHER + 1 - size if together else 1


def takes_many(session: Any) -> bool:
    """The first dimension of every input and output of an `onnxruntime.InferenceSession` takes any number."""
    nodes = [*session.get_inputs(), *session.get_outputs()]
    return all(node.shape and not isinstance(node.shape[0], int) for node in nodes)


def run_batch(session: Any, batch: Sequence[Feeds], name: str) -> list[Outputs]:
    """Outputs of each pair of a batch in an `onnxruntime.InferenceSession`; `name` of the graph, for errors.

    Raises:
        EngineError: it takes one pair, and not several at once, or gives fewer results than it was given pairs.
    """
    names = [output.name for output in session.get_outputs()]
    if len(batch) == 1:
        return [dict(zip(names, session.run(names, batch[0]), strict=True))]
    try:
        found = dict(zip(names, session.run(names, stack(batch)), strict=True))
    except library_errors() as error:
        raise EngineError(
            f"{name}: its batch has a name, and ONNX Runtime does not run {len(batch)} pairs at once: "
            f"{words_of(error)}; export it again"
        ) from error
    outputs = split(found, len(batch))
    refuse_fewer(outputs, name)
    return outputs


def refuse_fewer(outputs: Sequence[Outputs], name: str) -> None:
    """Refuse a graph that does not give every pair of a batch a result.

    Raises:
        EngineError: naming the output.
    """
    for of_pair in outputs:
        for output, array in of_pair.items():
            if not len(array):
                raise EngineError(
                    f"{name}: its output {output} has fewer results than the {len(outputs)} pairs that were given at "
                    "once, wanted one each; export it again"
                )
