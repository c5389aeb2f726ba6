"""The databases of pipelines in the test's process."""

import pytest

from tests.support.postgres.databases import FEW_DAYS_AHEAD


@pytest.fixture
def days_ahead() -> int:
    """No daemon makes the partitions of more days."""
    return FEW_DAYS_AHEAD
