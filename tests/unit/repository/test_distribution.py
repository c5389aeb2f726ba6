"""How a run is divided among processes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.distribution import ByFile

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


def _begun(request: pytest.FixtureRequest, processes: list[Process]) -> ByFile:
    option = SimpleNamespace(loadscopereorder=False)
    config: Any = SimpleNamespace(option=option, getvalue=lambda name: {"tx": [f"{len(processes)}*popen"]}[name])
    scheduler: ByFile = request.config.hook.pytest_xdist_make_scheduler(
        config=config, log=SimpleNamespace(loadscopesched=print)
    )
    for process in processes:
        scheduler.add_node(process)
        scheduler.add_node_collection(process, COLLECTED)
    scheduler.schedule()
    return scheduler


def test_the_tests_of_a_file_share_a_process_and_those_of_the_browser_two(request: pytest.FixtureRequest) -> None:
    processes = [Process(f"gw{number}") for number in range(4)]
    _begun(request, processes)
    assert [process.tests for process in processes] == [COLLECTED[0:2], COLLECTED[2:4], COLLECTED[4:7], COLLECTED[7:8]]


def test_what_a_process_that_died_had_left_is_run_by_the_next_one_which_ends(request: pytest.FixtureRequest) -> None:
    one, other, successor = (Process(f"gw{number}") for number in range(3))
    scheduler = _begun(request, [one, other])
    *done, ended_it, left = one.tests
    for test in done:
        scheduler.mark_test_complete(one, COLLECTED.index(test))
    for test in other.tests:
        scheduler.mark_test_complete(other, COLLECTED.index(test))
    assert [scheduler.remove_node(one), scheduler.remove_node(other)] == [ended_it, None]
    scheduler.add_node(successor)
    scheduler.add_node_collection(successor, COLLECTED)
    scheduler.schedule()
    assert (successor.tests, successor.shutting_down) == ([left], True)
