"""The errors a person at a terminal is meant to read.

Every message is one line that names the thing that is wrong and the mend. Anything else that is raised is a bug and
keeps its traceback. No line holds a key or a whole document.
"""

import re


class SaerayError(Exception):
    """Something the user can mend. The command line prints the message alone and exits with `exit_code`."""

    exit_code = 1


class UsageError(SaerayError):
    """The command was asked for wrongly (no such column, an unknown dataset, a bad selector)."""

    exit_code = 2


class DeviceLost(SaerayError):
    """The device that this process reads on answers nothing any more; only a new process can go on."""


class ChangedFiles(SaerayError):
    """A file of the reader or of the SAE is not the one that the store was claimed with."""


def short(value: str, most: int = 40) -> str:
    """A value for an error line, quoted and cut: a column may hold whole documents, which no line is to show."""
    line = " ".join(value.split())
    return repr(line if len(line) <= most else f"{line[: most - 1]}…")


def first_line(error: BaseException) -> str:
    """The first line of what another library has to say, which often has many."""
    return (str(error).splitlines() or [type(error).__name__])[0]


# What keys look like, for texts that quote one which is not ours (a proxy's, or ours cut short by the server).
_KEYS = re.compile(r"AIza[\w-]{6,}|AQ\.[\w-]{6,}|sk-[\w*.-]{3,}|(?i:bearer)\s+\S+|(?i:(?<=[?&]key=))[^&\s]+")
HIDDEN = "[key]"


def without_keys(text: str) -> str:
    """`text` without user names and passwords in addresses, and without anything that looks like a service's key."""
    return _KEYS.sub(HIDDEN, re.sub(r"(\w+://)[^/\s@]*@", r"\1", text))
