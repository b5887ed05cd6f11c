"""Sources, scorers, events, live state and sinks, joined."""
