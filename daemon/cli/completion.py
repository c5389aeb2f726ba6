"""`hookledger completion`: the script by which a shell completes commands, options and their values.

The scripts are those of click. They call `hookledger` with the variable that click looks at, before a command runs.
"""

from __future__ import annotations

from collections.abc import Mapping

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

_SCRIPTS: Mapping[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
_PROGRAM, _VARIABLE = "hookledger", "_HOOKLEDGER_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(list(_SCRIPTS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands in a shell.

    In ~/.bashrc, or with zsh in ~/.zshrc behind compinit: eval "$(hookledger completion bash)". For fish write it to
    ~/.config/fish/completions/hookledger.fish. It needs bash 4.4 or newer.
    """
    click.echo(_SCRIPTS[shell](context.find_root().command, {}, _PROGRAM, _VARIABLE).source())
