"""`python -m adaln`, `torchrun -m adaln`: the command line."""

from adaln.cli import main

if __name__ == "__main__":
    main()
