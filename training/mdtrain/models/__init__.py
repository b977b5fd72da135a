"""Networks: backbones, fusion, detector."""
