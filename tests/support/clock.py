"""The wall clock of a daemon, moved while it runs: what an administrator, or a broken time server, does to it."""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

_HERE = Path(__file__).parent


class WallClock:
    """`environment` is for the process whose clock this is."""

    def __init__(self, file: Path, *, path: str) -> None:
        file.write_bytes(struct.pack("d", 0.0))
        with file.open("r+b") as opened:
            self._shift = mmap.mmap(opened.fileno(), 8)
        self.environment = {
            "SHIFTED_CLOCK": str(file),
            "PYTHONPATH": os.pathsep.join([str(_HERE / "shifted_clock"), path]),
        }

    def shift(self, seconds: float) -> None:
        """From the true time, forwards or backwards."""
        self._shift[:8] = struct.pack("d", seconds)
