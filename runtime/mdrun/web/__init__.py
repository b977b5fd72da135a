"""The live page, metrics and health of a running rig."""
