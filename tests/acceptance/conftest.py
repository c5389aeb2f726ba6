"""The command line on a database of its own."""

from pathlib import Path

import pytest

from tests.support.processes.cli import CommandLine


@pytest.fixture
def hookledger(tmp_path: Path, database_url: str) -> CommandLine:
    return CommandLine(tmp_path, database_url)


@pytest.fixture
def without_database(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path)
