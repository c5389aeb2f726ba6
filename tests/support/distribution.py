"""Which tests of a run share a process.

Not by --dist=loadgroup: pytest-xdist 3.8 hands the groups over in an attribute of tests that pytest 9.2 no longer has, so
that each test would be a group of its own.

If a process dies, the run goes on and ends. By xdist 3.8 alone its successor would begin the same test again, and wait
for ever with the last one that it was handed.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]
from xdist.workermanage import WorkerController  # type: ignore[import-untyped]


class ByFile(LoadScopeScheduling):  # type: ignore[misc]
    """Keeps the tests of a file in one process, in the order in which they were collected."""

    def remove_node(self, node: WorkerController) -> str | None:
        """Takes the tests of a process back that is gone, but for the one that it ran: that would end another one too.
        Returns it.
        """
        units = self.assigned_work[node]
        left = [(unit, test) for unit in units.values() for test in unit if not unit[test]]
        for unit, test in left[:1]:
            unit[test] = True
        self.assigned_work[node] = {scope: unit for scope, unit in units.items() if not all(unit.values())}
        super().remove_node(node)
        return left[0][1] if left else None

    def _reschedule(self, node: WorkerController) -> None:
        """Hands a process more tests. It begins its last one only once it knows that no other follows."""
        super()._reschedule(node)
        while self.workqueue and not node.shutting_down and self._pending_of(self.assigned_work[node]) < 2:
            self._assign_work_unit(node)
        if not self.workqueue and not node.shutting_down:
            node.shutdown()

    def _split_scope(self, nodeid: str) -> str:
        return share(nodeid.partition("::")[0])


def share(file: str) -> str:
    """The tests of a file share the fixtures of its module. Those of the browser share a Chromium and a daemon, but for
    the screens, which take as long as all others of them together; those of sources share a broker.
    """
    if "/kafka/" in file:
        return "kafka"
    return "browser" if "/browser/" in file and not file.endswith("/test_screens.py") else file
