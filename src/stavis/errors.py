"""The errors that a user can cause, as opposed to those that are our own bugs."""


class StavisError(Exception):
    """Bad input, a bad setting or a missing resource, told in one line.

    The message names the file, what was found in it and what is allowed. The command line prints it
    without a traceback and exits with status 1.
    """
