"""What of a graph is the network's body."""

from __future__ import annotations

import pytest
from onnx import TensorProto, helper

from mdexport.convert.graph import Graph
from mdrun.errors import EngineError
from tests.export.graphs import NAMES, make_graph


def test_the_body_lies_between_the_convolutions() -> None:
    graph = Graph(make_graph())
    assert graph.body() == ["first", "relu", "resize", "last"]
    assert [node.name for node in graph.nodes(graph.body())] == graph.body()


def test_what_leads_to_a_convolution_is_not_what_only_follows_one() -> None:
    before = Graph(make_graph()).before_last_convolutions()
    assert before == set(NAMES) - {"scale", "beside"}


def test_a_graph_without_convolutions_has_no_body() -> None:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("image", "relu_out")]
    node = helper.make_node("Relu", ["image"], ["relu_out"], name="relu")
    graph = Graph(helper.make_model(helper.make_graph([node], "none", value[:1], value[1:])))
    assert graph.body() == []
    assert graph.before_last_convolutions() == set()


def test_what_is_floating_point() -> None:
    graph = Graph(make_graph())
    assert graph.is_float("first_w")
    assert graph.is_float("cast_out")
    assert graph.is_float("scale_out")
    assert not graph.is_float("image")
    assert not graph.is_float("")  # an input that is left out


def test_nodes_come_in_the_order_of_the_graph() -> None:
    assert [node.name for node in Graph(make_graph()).nodes({"last", "cast", "relu"})] == ["cast", "relu", "last"]


@pytest.mark.parametrize("name", ["", "first"])
def test_nodes_without_a_name_of_their_own_are_refused(name: str) -> None:
    model = make_graph()
    model.graph.node[-1].name = name
    with pytest.raises(EngineError, match="names of their own"):
        Graph(model)


def test_the_type_of_a_graph_is_inferred_where_it_is_not_stated() -> None:
    model = make_graph()
    assert not model.graph.value_info
    assert Graph(model)._types["relu_out"] == TensorProto.FLOAT
