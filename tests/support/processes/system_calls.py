"""The system calls that a unit of systemd leaves to a service: this program runs a command with no others.

    python -m tests.support.processes.system_calls deploy/hookledger.service COMMAND…

systemd knows which calls its groups have, and libseccomp their numbers.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import subprocess
import sys
from pathlib import Path

ALLOW = 0x7FFF0000
REFUSE = 0x00050000 | errno.EPERM
# What every service may call, whatever its unit says.
ALWAYS = "@default"


def left_by(unit: str) -> set[str]:
    """The calls that the lines SystemCallFilter of a unit leave, in their order."""
    left = calls_of(ALWAYS)
    for does_forbid, names in re.findall(r"^SystemCallFilter=(~?)(.+)$", unit, re.MULTILINE):
        for name in names.split():
            left = left - calls_of(name) if does_forbid else left | calls_of(name)
    return left


def calls_of(name: str) -> set[str]:
    """The calls of a group, and of those in it; else the call itself."""
    if not name.startswith("@"):
        return {name}
    shown = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    members = [line.strip() for line in shown.splitlines()[1:]]
    return set().union(*(calls_of(each) for each in members if each and not each.startswith("#")))


def main(unit: str, *command: str) -> None:
    allowed = left_by(Path(unit).read_text())
    seccomp = ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(seccomp.seccomp_init(REFUSE))
    for name in sorted(allowed):
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # it is none of this machine otherwise
            assert seccomp.seccomp_rule_add(rules, ctypes.c_uint(ALLOW), number, 0) == 0, name
    assert seccomp.seccomp_load(rules) == 0
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
