"""What scores rows as they come: a fitted entity, or a baseline that learns as it goes."""
