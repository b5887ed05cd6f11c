"""The promise of an alarm rate: what a fit keeps to say how it was kept, and what is told of it."""
