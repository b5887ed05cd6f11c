"""Live sources, one file each: a source is iterated and yields frames. Knows no detector."""
