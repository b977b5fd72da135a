"""What this machine has of NVIDIA's, and what engines of TensorRT and of TensorRT for RTX need of it."""
