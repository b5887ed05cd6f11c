"""Live sources, one file each: iterate one and samples come. Knows no detector."""
