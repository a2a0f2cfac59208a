"""The errors a person at a terminal is meant to read.

Every message is one line that names the thing that is wrong and the mend. Anything else that is raised is a bug and
keeps its traceback.
"""


class SaerayError(Exception):
    """Something the user can mend. The command line prints the message alone and exits with `exit_code`."""

    exit_code = 1


class UsageError(SaerayError):
    """The command was asked for wrongly (no such column, an unknown dataset, a bad selector)."""

    exit_code = 2


def first_line(error: BaseException) -> str:
    """The first line of what another library has to say, which often has many."""
    return (str(error).splitlines() or [type(error).__name__])[0]
