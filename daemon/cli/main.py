"""The `hookledger` group, and the conversion of every error into an exit code.

Every exception of a command becomes one line `error: …` (several mistakes get one line each), a line `try: …` if the
next step is known, and an exit code. `failures.describe` decides which. A user never sees a traceback.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from click.shell_completion import CompletionItem

from daemon import __version__
from daemon.cli.console import failures
from daemon.cli.console.output import plain
from daemon.runtime import queued_stream

EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells count

# The module of each command, and its line in the list of commands: the first line of its help, which a test checks.
COMMANDS = {
    "run": ("run", "Run the daemon."),
    "demo": ("demo.command", "Show what Hookledger does, on an embedded PostgreSQL."),
    "migrate": ("ops", "Bring the database to the schema of this version."),
    "status": ("status.command", "Show the state of the installation as a live table."),
    "listen": ("listen.command", "Forward a tenant's events to a program on this machine."),
    "publish": ("events.publish", "Publish domain events from NDJSON."),
    "routes": ("routes.commands", "List, create and change routes."),
    "deliveries": ("deliveries", "List deliveries, show one, and send one or a period again."),
    "sources": ("events.sources", "Try sources of events out, and mend what they refused."),
    "event-types": ("events.event_types", "Load and list the catalogue of event types."),
    "rebuild": ("auditing.audit", "Fold the route log from nothing and verify its hash chain."),
    "explain": ("auditing.audit", "Say for each route why an event was or was not sent."),
    "audit": ("auditing.audit", "Recompute every decision of a period and compare it with the record."),
    "verify": ("auditing.verify", "Check the proof of a delivery, offline."),
    "token": ("tokens", "Make, list and revoke API tokens."),
    "login-link": ("tokens", "Make a one-time link into the dashboard."),
    "keys": ("ops", "Exchange the master key that seals all secrets."),
    "config": ("ops", "Show or check the configuration."),
    "completion": ("completion", "Print the script that completes commands in a shell."),
    "healthcheck": ("ops", "Ask the daemon on this machine whether it is alive."),
}


def _imported(name: str) -> ModuleType:
    """The module, which the garbage collector passes over from now on, at the exit too, with all that it imported.

    Measured: to look through all that, which stays, took a quarter of the CPU time of a short command.
    """
    if name not in sys.modules:
        gc.disable()
        try:
            _import_structlog()
            import_module(name)
        finally:
            gc.freeze()
            gc.enable()
    return sys.modules[name]


def _import_structlog() -> None:
    """Imports it without rich, which it looks for to print tracebacks that we do not print.

    Measured: 3 MiB of each process that stays.
    """
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment] # None: not to be found
    if "structlog" not in modules and "rich" not in modules:
        modules["rich"] = None
        try:
            import_module("structlog")
        finally:
            del modules["rich"]


class LazyGroup(click.Group):
    """A group that imports the module of a command when the command is used, not when it is listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - same
        if cmd_name not in COMMANDS:
            return None
        command = getattr(_imported(f"daemon.cli.{COMMANDS[cmd_name][0]}"), cmd_name.replace("-", "_"))
        return command if isinstance(command, click.Command) else None

    # If the reader of our output went away, click itself would exit with 1, and say nothing.

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,  # noqa: ANN401 - click's signature
    ) -> click.Context:
        try:
            return super().make_context(info_name, args, parent, **extra)
        except BrokenPipeError:  # while it printed --help
            raise click.exceptions.Exit(_discard_output()) from None

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            return _discard_output()

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Completes from the list, so that a key press imports no command but the one that was typed."""
        found = [CompletionItem(name, help=line) for name, (_, line) in COMMANDS.items() if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - same
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="hookledger", message="%(prog)s %(version)s")
def cli() -> None:
    """Deliver webhooks from an event log, and prove afterwards why each one was or was not sent.

    Exit codes: 0 done, 1 the check failed or something went wrong, 2 wrong usage, 69 database unreachable,
    78 configuration error.
    """


def entry() -> None:
    """The console script: runs the command line and exits with its code."""
    queued_stream.occupy_closed_descriptors()
    _replace_closed_streams()
    _take_every_character()
    code = execute(sys.argv[1:])
    queued_stream.drain()
    sys.exit(code)


def _replace_closed_streams() -> None:
    """Python has None for an output that was closed when it started. What is printed there goes nowhere, unharmed."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as long as the process
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as long as the process


def _take_every_character() -> None:
    """A terminal of another encoding, such as Latin-1, shows a question mark for what it does not have, like a dash."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")


def execute(arguments: list[str]) -> int:
    """Runs one command line and returns its exit code. Prints everything that the user sees of a failure."""
    try:
        code = cli.main(args=arguments, prog_name="hookledger", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        return _discard_output()
    except (KeyboardInterrupt, click.Abort) as error:
        if isinstance(error.__context__, EOFError):
            return _fail(failures.of("nothing was done: the question got no answer", "pass --yes in scripts"))
        return EXIT_INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return failures.EXIT_USAGE
    except Exception as error:  # noqa: BLE001 - the outermost handler: a user never sees a traceback
        return _fail(failures.describe(error))


def _fail(report: failures.ExitReport) -> int:
    with contextlib.suppress(OSError):  # if it cannot be said, the exit code still says it
        for message in report.messages:
            click.echo(f"error: {plain(message)}", err=True)
        if report.hint:
            click.echo(f"try: {plain(report.hint)}", err=True)
    return report.code


def _discard_output() -> int:
    """The reader of our output closed the pipe (`| head`): that is success. Python must not complain at exit either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
