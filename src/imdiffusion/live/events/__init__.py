"""Events as they begin, rest, go on and end."""
