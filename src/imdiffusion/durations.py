"""Spans of time: of timestamps and records in nanoseconds, of settings and messages in seconds."""

MILLISECOND_NS = 1_000_000
SECOND_NS = 1_000 * MILLISECOND_NS
MINUTE_NS = 60 * SECOND_NS
HOUR_NS = 60 * MINUTE_NS
DAY_NS = 24 * HOUR_NS
DAY_S = DAY_NS // SECOND_NS
