"""Which tests of a run share a process.

Not by --dist=loadgroup: pytest-xdist 3.8 hands the groups over in an attribute of tests that pytest 9.2 no longer has, so
that each test would be a group of its own.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Keeps the tests of a file in one process, in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return share(nodeid.partition("::")[0])


def share(file: str) -> str:
    """The tests of a file share the fixtures of its module. Those of the browser share a Chromium and a daemon, but for
    the screens, which take as long as all others of them together; those of sources share a broker.
    """
    if "/kafka/" in file:
        return "kafka"
    return "browser" if "/browser/" in file and not file.endswith("/test_screens.py") else file
