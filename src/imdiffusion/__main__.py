"""`python -m imdiffusion` is the command `imdiffusion`, of whichever Python has the library."""

from imdiffusion.cli import main

if __name__ == "__main__":
    main()
