"""`python -m imdiffusion.cli` is the command `imdiffusion`."""

from imdiffusion.cli import main

main()
