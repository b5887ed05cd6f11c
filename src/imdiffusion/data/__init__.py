"""Data in and out: frames, files, scaling, windows. Imports neither torch nor a detector."""
