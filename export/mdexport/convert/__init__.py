"""Conversions of an ONNX graph to another precision: graph in, graph out, nothing read or written."""
