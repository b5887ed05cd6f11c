"""From errors of every step to events, in numpy: error, vote, threshold, event. No torch here."""
