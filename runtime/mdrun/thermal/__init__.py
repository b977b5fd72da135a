"""Thermal cameras: counts to 8 bits, shutter events, bad pixels, degrees."""
