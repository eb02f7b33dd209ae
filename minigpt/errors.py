"""The one exception a user's mistake raises."""


class MinigptError(ValueError):
    """Bad input, said in one line that names the thing, the value and the limit.

    The command line prints it without a traceback and exits with code 2.
    """
