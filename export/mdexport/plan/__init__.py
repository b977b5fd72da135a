"""Engines of TensorRT and of TensorRT for RTX: build them, prove their precision, explain what they need.

Nothing here imports torch or onnx, so a device that has TensorRT and `mdrun` can build its own plans.
"""
