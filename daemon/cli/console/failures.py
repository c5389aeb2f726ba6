"""From an exception to what the user sees: a sentence, the next step and an exit code.

0  done                        69  the database cannot be reached (EX_UNAVAILABLE)
1  failed                      78  the configuration cannot be used (EX_CONFIG)
2  wrong usage
"""

from __future__ import annotations

import errno
import os
import traceback
from dataclasses import dataclass
from pathlib import Path

import click

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNAVAILABLE = 69
EXIT_CONFIG = 78


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitReport:
    """One message for each mistake. `hint` is the next step in the imperative, or empty."""

    messages: tuple[str, ...]
    hint: str = ""
    code: int = EXIT_FAILED


class CliError(Exception):
    """A failure that a command raises with its own message, hint and exit code."""

    def __init__(self, message: str, *, hint: str = "", code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.report = of(message, hint, code)


def of(message: str, hint: str = "", code: int = EXIT_FAILED) -> ExitReport:
    """A report of one sentence."""
    return ExitReport(messages=(message,), hint=hint, code=code)


def describe(error: BaseException) -> ExitReport:
    """The report on `error`. A group of errors is reported by its first one."""
    error = first_of(error)
    match error:
        case CliError():
            return error.report
        case click.ClickException():
            return _of_usage(error)
        case OSError():
            return _of_system(error)
        case RuntimeError() | MemoryError() if (lack := _of_lack(error)) is not None:
            return lack
        case ImportError() | SyntaxError():  # a broken installation: `_of_domain` might fail to import, too
            return _of_bug(error)
        case _:
            return _of_domain(error)


def first_of(error: BaseException) -> BaseException:
    """The first error of a group of errors, or of groups in groups; an error that is no group itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def system_cause(error: OSError) -> str:
    """What the system says of an error. Where asyncio has put the address into its text, the sentence of its number."""
    if error.errno is not None and error.errno in errno.errorcode:
        return os.strerror(error.errno)
    return error.strerror or str(error)


def _of_usage(error: click.ClickException) -> ExitReport:
    hint = ""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f"{error.ctx.command_path} --help"
    message = " ".join(error.format_message().split())  # click lists choices on lines of their own
    return of(message, hint, error.exit_code)


def _of_system(error: OSError) -> ExitReport:
    cause = error.strerror or str(error)
    if error.errno == errno.EADDRINUSE:
        # asyncio words it as "error while attempting to bind on address ('127.0.0.1', 8080): address already in use".
        return of(f"another program listens there already: {cause}", "stop it, or choose another --listen address")
    return of(cause if error.filename is None else f"{error.filename}: {cause}")


def _of_lack(error: BaseException) -> ExitReport | None:
    from daemon.runtime.tasks import MORE_THREADS, is_lack_of_threads  # here for the same reason as below

    if isinstance(error, MemoryError):
        return of("there is no memory left", "give it more, or look at what takes it")
    return of("no further thread can be started", MORE_THREADS) if is_lack_of_threads(error) else None


def _of_domain(error: BaseException) -> ExitReport:
    # Imported here, so that `hookledger --help` stays fast.
    from daemon.audit import AmbiguousEvent, AuditPartFailed, UnknownEvent
    from daemon.commands import CommandError, Invalid, TooManyRoutes
    from daemon.config import ConfigError
    from daemon.credentials.keys import WrongMasterKey
    from daemon.pipeline.intake.projection import LogReplaced
    from daemon.runtime.program import ProgramReplaced
    from daemon.sources.kafka.client import ExtraMissing
    from eventstore.postgres.errors import (
        EmbeddedMisconfigured,
        MalformedUrl,
        StoreError,
        StoreUnavailable,
        UnsafeServer,
    )

    hint = error.hint if isinstance(error, StoreError | AuditPartFailed | ExtraMissing | ProgramReplaced) else ""
    messages: tuple[str, ...] = (str(error),)
    code = EXIT_FAILED
    match error:
        case ConfigError():
            messages, code = error.problems, EXIT_CONFIG
        case EmbeddedMisconfigured() | MalformedUrl() | UnsafeServer() | ExtraMissing():
            code = EXIT_CONFIG
        case LogReplaced():
            code = EXIT_FAILED  # it answers, and trying again changes nothing
        case StoreUnavailable():
            code = EXIT_UNAVAILABLE
        case WrongMasterKey():
            code, hint = EXIT_CONFIG, error.hint
        case Invalid():
            messages = tuple(f"{p.field}: {p.message}" if p.field else p.message for p in error.problems)
            code = EXIT_USAGE
        case TooManyRoutes():
            hint = "hookledger routes delete, or a higher limits.routes_per_tenant"
        case AmbiguousEvent():
            hint = "repeat the command with --tenant"
        case StoreError() | CommandError() | UnknownEvent() | AuditPartFailed() | ProgramReplaced():
            pass
        case _:
            return _of_bug(error)
    return ExitReport(messages=messages, hint=hint, code=code)


def _of_bug(error: BaseException) -> ExitReport:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else ""
    message = " ".join(str(error).split())
    return of(
        f"{type(error).__name__}{where}: {message}" if message else f"{type(error).__name__}{where}",
        "repeat it, and report it with this line if it stays: it is a mistake in Hookledger",
    )
