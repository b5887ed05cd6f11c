"""`imdiffusion.toml`: its keys, how it is read, everything that is wrong with it."""
