"""Entry point of the `stavis` command and of `python -m stavis`."""

import os
import sys


def main() -> None:
    """Runs the command line. Errors that a user can cause end it with one line and status 1."""
    from stavis.cli import app
    from stavis.cli.options import name_flags, use_current_names
    from stavis.errors import StavisError, one_line

    try:
        app(use_current_names(sys.argv[1:]))
    except (StavisError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            # Whoever read our output, `head` for example, has seen enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        print(f"stavis: error: {name_flags(one_line(error))}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(
            "stavis: interrupted; finished work is kept, and the same command resumes from there",
            file=sys.stderr,
        )
        sys.exit(130)


if __name__ == "__main__":
    main()
