"""`hookledger completion`: the script by which a shell completes commands, options and their values.

The scripts are those of click. They call `hookledger` with the variable that click looks at, before a command runs.
"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from daemon.cli.console.failures import CliError

PROGRAM = "hookledger"
_VARIABLE = "_HOOKLEDGER_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands in a shell.

    In ~/.bashrc, or with zsh in ~/.zshrc behind compinit: eval "$(hookledger completion bash)". For fish write it to
    ~/.config/fish/completions/hookledger.fish. It needs bash 4.4 or newer.
    """
    script = get_completion_class(shell)
    if script is None:
        raise CliError(f"no completion for {shell} is known", hint="hookledger completion --help")
    click.echo(script(context.find_root().command, {}, PROGRAM, _VARIABLE).source())
