"""Sub-commands of `mdtrain`, one module each; heavy imports wait until a command runs."""
