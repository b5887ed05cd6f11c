"""Rows of one entity on their way to a scorer: matched, in order, on a grid."""
