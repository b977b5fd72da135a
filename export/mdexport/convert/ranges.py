"""What values a graph's tensors take on real pairs: for INT8 scales, and for what is too large for half precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, TensorsData, create_calibrator

from mdexport.convert.graph import Graph
from mdexport.pairs import Scene
from mdexport.places import scratch_folder
from mdrun.backends.base import Feeds

Progress = Callable[[Sequence[Scene]], Iterator[Scene]]


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, scenes: Iterator[Scene]) -> None:
        self._scenes = scenes

    def get_next(self) -> Feeds | None:
        scene = next(self._scenes, None)
        return None if scene is None else scene.feeds


def measure_ranges(model: onnx.ModelProto, scenes: Sequence[Scene], shown: Progress = iter) -> TensorsData:
    """Smallest and largest value of every tensor that the body's nodes read or make.

    Args:
        model: FP32 graph.
        scenes: what the cameras gave.
        shown: wraps the scenes with a progress bar.

    Raises:
        OutputError: the system's place for temporary files does not hold the graph.
    """
    operators = sorted({node.op_type for node in Graph(model).nodes(Graph(model).body())})
    with scratch_folder() as folder:
        source, augmented = folder / "model.onnx", folder / "augmented.onnx"
        onnx.save(model, source)
        calibrator = create_calibrator(
            source, operators, str(augmented), calibrate_method=CalibrationMethod.MinMax, extra_options={}
        )
        calibrator.collect_data(_Reader(shown(scenes)))
        return calibrator.compute_data()


def too_large(model: onnx.ModelProto, ranges: TensorsData, limit: float) -> set[str]:
    """Names of the nodes that read or make a value above `limit`."""
    large = {name for name, data in ranges.items() if _largest(data) > limit}
    return {node.name for node in model.graph.node if large & {*node.input, *node.output}}


def _largest(data: Any) -> float:
    low, high = data.range_value
    return max(abs(float(low.min())), abs(float(high.max())))
