"""A small disk that a test can fill: a tmpfs of its own, where mounting is allowed."""

from __future__ import annotations

import errno
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE_MEBIBYTES = 192


class NoMounting(Exception):
    """The text says why no disk could be mounted."""


class SmallDisk:
    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self) -> None:
        """Fills the disk to the last byte."""
        block = b"\0" * 4096
        try:
            with self._ballast.open("ab", buffering=0) as file:
                while file.write(block) == len(block):
                    pass
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

    def free(self) -> None:
        self._ballast.unlink()


@contextmanager
def small_disk() -> Iterator[SmallDisk]:
    """Mounts a small disk. Raises NoMounting if that is not allowed."""
    with tempfile.TemporaryDirectory(prefix="hookledger-disk-") as directory:
        options = f"size={SIZE_MEBIBYTES}m,mode=0755"
        try:
            mounted = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory], check=False, capture_output=True, text=True
            )
        except OSError as error:
            raise NoMounting(f"mount: {error.strerror}") from error
        if mounted.returncode:
            raise NoMounting(mounted.stderr.strip() or f"mount ended with {mounted.returncode}")
        try:
            yield SmallDisk(Path(directory))
        finally:
            subprocess.run(["umount", "--lazy", directory], check=False)
