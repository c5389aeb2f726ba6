"""Which version runs, and which one is installed: an upgrade in place replaces the files of a running daemon.

The one thing to know: a process goes on by the modules that it has imported, and a process that it starts later imports
what is there by then. What the two tell each other is of one version. So the parent of one (a worker, the evaluation
process, one of several processes of an audit) tells it its own version, and it ends with OTHER_VERSION if its own is
another, before it has read anything. Nor is a configuration applied by a daemon whose files were replaced: what begins
anew then reads files, those of the schema among them. Only a restart helps, and only its operator knows when.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

from daemon import __version__

# EX_PROTOCOL of sysexits.h: the two would not understand each other.
OTHER_VERSION = 76

REMEDY = "restart the daemon: its files were replaced by those of another version"


class ProgramReplaced(Exception):
    """The files of this process were replaced by those of another version."""

    hint = "restart the daemon"

    def __init__(self, installed: str) -> None:
        super().__init__(f"Hookledger {installed} has been installed, and this process still runs {__version__}")


def installed_version() -> str:
    """The version of the files that a process would run which is started now."""
    try:
        return version("hookledger")
    except PackageNotFoundError:  # a source tree; or the installation is under way
        return __version__


def check() -> None:
    """Raises ProgramReplaced."""
    installed = installed_version()
    if installed != __version__:
        raise ProgramReplaced(installed)


def refusal_of(starter: str) -> str | None:
    """What is wrong if this process was started by one of the version `starter`; None if nothing is."""
    if starter == __version__:
        return None
    return f"this is Hookledger {__version__}, and it was started by {starter or 'an older one'}"


def end_if_other(arguments: list[str]) -> None:
    """Ends this process if the one that started it is of another version, which is the only argument."""
    refusal = refusal_of("".join(arguments))
    if refusal is not None:
        sys.stderr.write(f"error: {refusal}\ntry: {REMEDY}\n")
        sys.exit(OTHER_VERSION)
