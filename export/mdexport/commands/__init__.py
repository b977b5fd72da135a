"""Commands of `mdexport`, one file each."""
