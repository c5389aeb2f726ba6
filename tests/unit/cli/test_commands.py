"""The list of commands: it imports nothing heavy, and its lines are the first lines of the commands' help."""

import subprocess
import sys

import click
import pytest

from daemon.cli.main import COMMANDS, cli


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_of_a_command_is_the_first_one_of_its_help(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name
    assert (command.help or "").split("\n")[0] == COMMANDS[name][1]


@pytest.mark.parametrize("call", ["cli.list_commands(context)", "cli.shell_complete(context, '')"])
def test_listing_the_commands_imports_nothing_heavy(call: str) -> None:
    heavy = {"aiohttp", "asyncio", "asyncpg", "pydantic", "rich", "structlog", "uvloop", "daemon.commands"}
    program = (
        "import sys, click; from daemon.cli.main import cli; context = click.Context(cli); "
        f"assert {call}; print(sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_daemon_has_no_library_for_tables_in_memory() -> None:
    script = """
import sys
from daemon.cli import main
assert main.cli.get_command(None, "run").name == "run"
assert "structlog" in sys.modules
assert not [name for name in sys.modules if name.startswith("rich")]
import rich
"""
    subprocess.run([sys.executable, "-c", script], check=True)
