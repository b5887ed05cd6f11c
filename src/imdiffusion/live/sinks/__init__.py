"""Where live records go, one file each. Knows no detector."""
