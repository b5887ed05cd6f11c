"""Live detection as a whole: its configuration, which model speaks, and what fits the next one."""
