"""Models over time: fitted in the background, compared, put in charge, taken over."""
