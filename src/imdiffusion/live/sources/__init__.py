"""Where live rows come from, one file each: iterate one and samples come. Knows no detector."""
