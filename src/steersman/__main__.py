"""`python -m steersman` is the `steersman` command."""

from steersman.cli import main

if __name__ == "__main__":
    main()
