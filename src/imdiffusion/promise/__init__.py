"""The promise of an alarm rate: what a fit keeps of it, and the report of how it was kept."""
