"""The command line on a database of its own."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes.cli import CommandLine


@pytest.fixture
def hookledger(tmp_path: Path, database_url: str) -> CommandLine:
    return CommandLine(tmp_path, database_url)


@pytest.fixture
def without_database(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Not in tmp_path: pytest makes its parents unreadable to other users, and root's server runs as another user."""
    directory = Path(tempfile.mkdtemp(prefix="hookledger-test-"))
    yield directory
    shutil.rmtree(directory)
