"""Measures: KAIST miss rate, COCO average precision, and the readers they need."""
