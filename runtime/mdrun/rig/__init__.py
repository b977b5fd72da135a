"""The rig: two named cameras, how they belong together, which engines see through them and who is told."""
