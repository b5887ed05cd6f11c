"""The live state: one SQLite file, its one writer, its readers, what is kept for how long."""
