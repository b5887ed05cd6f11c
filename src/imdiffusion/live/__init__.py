"""Live detection: rows as they come, scores as they can be said, events as they update."""
