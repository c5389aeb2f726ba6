"""`hookledger completion`: a real shell completes commands, options and values."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes.cli import CommandLine
from tests.support.processes.terminal import Terminal

TAB = "\t"
PROMPT = "ready> "


@pytest.fixture
def environment(without_database: CommandLine) -> dict[str, str]:
    """The variables of a shell that finds the program."""
    program = without_database.home / "bin" / "hookledger"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m daemon "$@"\n')
    program.chmod(0o755)
    given = without_database.environment
    return given | {"PATH": f"{program.parent}:{given['PATH']}", "PS1": PROMPT, "INPUTRC": "/dev/null"}


@pytest.fixture
def bash(environment: dict[str, str], tmp_path: Path) -> Iterator[Terminal]:
    """A shell of a person who has followed the help."""
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    with Terminal(
        ["bash", "--norc", "--noprofile", "-i"], environment=environment, folder=tmp_path, columns=200
    ) as shell:
        shell.until(PROMPT)
        shell.press('eval "$(hookledger completion bash)"; echo "is" "set"\n')
        shell.until("is set")
        yield shell


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("hookledger stat", "hookledger status "),
        ("hookledger routes cre", "hookledger routes create "),
        ("hookledger status --on", "hookledger status --once "),
        ("hookledger routes list --status dis", "hookledger routes list --status disabled "),
        ("hookledger completion z", "hookledger completion zsh "),
    ],
)
def test_bash_completes_what_is_typed(bash: Terminal, typed: str, completed: str) -> None:
    seen = len(bash.written)
    bash.press(typed + TAB)
    bash.until(completed, since=seen)


def test_a_file_is_completed_where_one_is_meant(bash: Terminal, tmp_path: Path) -> None:
    (tmp_path / "events-of-today.ndjson").touch()
    seen = len(bash.written)
    bash.press("hookledger publish events-of" + TAB)
    bash.until("hookledger publish events-of-today.ndjson", since=seen)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_understands_its_script(without_database: CommandLine, shell: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(without_database("completion", shell).out)
    assert "_HOOKLEDGER_COMPLETE" in script.read_text()
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed: only its script was printed")
    subprocess.run([shell, "-n", str(script)], check=True, capture_output=True)


def test_another_shell_is_wrong_usage(without_database: CommandLine) -> None:
    assert "'bash', 'zsh', 'fish'" in without_database("completion", "csh", code=2).err
