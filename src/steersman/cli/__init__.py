"""The command line: a file a noun; talks to the client alone."""


def main() -> None:
    """Run the `steersman` command."""
