"""Entry point of the `stavis` command and of `python -m stavis`."""

import os
import sys


def main() -> None:
    """Runs the command line; errors that a user can cause end it with one line and status 1."""
    from stavis.cli import app
    from stavis.errors import StavisError

    try:
        app()
    except (StavisError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            # The reader of our output, `head` say, has gone; what it read was all it wanted.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        print(f"stavis: error: {_one_line(error)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(
            "stavis: interrupted; finished work is kept, the same command goes on from there", file=sys.stderr
        )
        sys.exit(130)


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


if __name__ == "__main__":
    main()
