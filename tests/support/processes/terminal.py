"""A program on a terminal of its own, as a person sees and uses it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

SECONDS = 60.0
_SEQUENCES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\r")

ENTER_SCREEN, LEAVE_SCREEN = "\x1b[?1049h", "\x1b[?1049l"
SHOW_CURSOR = "\x1b[?25h"
CONTROL_C = "\x03"


class Terminal:
    """Runs a command on a terminal. `written` is all that it has written, control sequences included."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        columns: int = 100,
        lines: int = 40,
    ) -> None:
        self._master, slave = pty.openpty()
        self.resize(columns, lines)
        self.written = ""
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env={**environment, "TERM": "xterm-256color"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - it takes no lock
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    @property
    def text(self) -> str:
        """What was written, without control sequences."""
        return _SEQUENCES.sub("", self.written)

    def until(self, text: str, *, since: int = 0) -> str:
        """Waits until a text was written, not counting the first `since` characters; returns the text from there on."""
        deadline = time.monotonic() + SECONDS
        while text not in (seen := _SEQUENCES.sub("", self.written[since:])):
            assert time.monotonic() < deadline, self.text
            assert self._read(), self.text
        return seen

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def end(self) -> int:
        """Waits until the program ends; returns its exit code."""
        while self._read():
            pass
        return self.process.wait(SECONDS)

    def _read(self) -> bool:
        """Reads what was written; False if the program has closed the terminal."""
        ready, _, _ = select.select([self._master], [], [], SECONDS)
        assert ready, self.text
        try:
            read = os.read(self._master, 1 << 16)
        except OSError:  # EIO: nobody has the other side open any more
            return False
        self.written += read.decode(errors="replace")
        return bool(read)
