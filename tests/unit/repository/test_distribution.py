"""How a run is divided among processes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

COLLECTED = [
    "tests/browser/test_screens.py::test_light[status]",
    "tests/browser/test_screens.py::test_dark[status]",
    "tests/browser/test_print.py::test_a_page",
    "tests/browser/test_times.py::test_a_moment[a/b::c]",
    "tests/unit/test_keys.py::test_one",
    "tests/unit/test_keys.py::test_two",
    "tests/unit/test_keys.py::test_three",
    "tests/unit/test_logs.py::test_a_line",
]


class Process:
    """What the scheduler sees of a process that runs tests."""

    shutting_down = False

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.tests: list[str] = []

    def send_runtest_some(self, numbers: list[int]) -> None:
        self.tests += [COLLECTED[number] for number in numbers]

    def shutdown(self) -> None:
        self.shutting_down = True


def test_the_tests_of_a_file_share_a_process_and_those_of_the_browser_two(request: pytest.FixtureRequest) -> None:
    option = SimpleNamespace(loadscopereorder=False)
    config: Any = SimpleNamespace(option=option, getvalue=lambda name: {"tx": ["4*popen"]}[name])
    scheduler = request.config.hook.pytest_xdist_make_scheduler(
        config=config, log=SimpleNamespace(loadscopesched=print)
    )
    processes = [Process(f"gw{number}") for number in range(4)]
    for process in processes:
        scheduler.add_node(process)
        scheduler.add_node_collection(process, COLLECTED)
    scheduler.schedule()
    assert [process.tests for process in processes] == [COLLECTED[0:2], COLLECTED[2:4], COLLECTED[4:7], COLLECTED[7:8]]
