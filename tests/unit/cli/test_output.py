"""What commands print: values as plain text, and errors with their exit codes."""

import threading
from datetime import UTC, datetime

import click
import pytest

from daemon.cli.console import failures, output
from daemon.cli.console.failures import EXIT_CONFIG, EXIT_FAILED, EXIT_UNAVAILABLE, EXIT_USAGE, CliError
from daemon.commands import Invalid, NotFound
from daemon.config import ConfigError
from daemon.core.events.event import FieldProblem
from daemon.credentials.keys import WrongMasterKey
from eventstore.postgres.errors import (
    AccessRefused,
    EmbeddedMisconfigured,
    SchemaMismatch,
    StoreUnavailable,
    UnsafeServer,
)


def test_control_characters_are_written_out() -> None:
    assert output.plain("a\x1b[2Jb\nc\u202ed – é") == "a\\x1b[2Jb\\nc\\u202ed – é"


def test_a_table_shows_markup_of_a_merchant_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("name",), [("[red]sale[/red]",)], empty="")
    assert "[red]sale[/red]" in capsys.readouterr().out


def test_a_piped_table_cuts_nothing_off(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("a", "b"), [("x" * 500, datetime(2026, 11, 23, tzinfo=UTC)), ("y", None)], empty="")
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["a", "b"]
    assert first.split() == ["x" * 500, "2026-11-23", "00:00:00.000000Z"]
    assert second.split() == ["y", "–"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CliError("x"), EXIT_FAILED),
        (NotFound("x"), EXIT_FAILED),
        (SchemaMismatch("x"), EXIT_FAILED),
        (Invalid((FieldProblem(field="name", message="is empty"),)), EXIT_USAGE),
        (StoreUnavailable("x"), EXIT_UNAVAILABLE),
        (AccessRefused("x"), EXIT_UNAVAILABLE),
        (EmbeddedMisconfigured("x"), EXIT_CONFIG),
        (UnsafeServer("x"), EXIT_CONFIG),
        (ConfigError(("x", "y")), EXIT_CONFIG),
        (WrongMasterKey("x"), EXIT_CONFIG),
        (ExceptionGroup("x", [StoreUnavailable("x")]), EXIT_UNAVAILABLE),
        (ZeroDivisionError("x"), EXIT_FAILED),
    ],
)
def test_each_kind_of_error_has_its_exit_code(error: Exception, code: int) -> None:
    assert failures.describe(error).code == code


def test_a_lack_of_threads_or_memory_is_no_mistake_of_ours() -> None:
    before = threading.stack_size(1 << 47)  # more than there is
    try:
        with pytest.raises(RuntimeError) as lacking:
            threading.Thread().start()
    finally:
        threading.stack_size(before)
    for error, message in ((lacking.value, "no further thread can be started"), (MemoryError(), "no memory left")):
        report = failures.describe(error)
        assert message in report.messages[0]
        assert report.hint
        assert "mistake" not in report.hint


def test_each_problem_is_a_message_of_its_own() -> None:
    problems = (FieldProblem(field="name", message="is empty"), FieldProblem(field="", message="is odd"))
    assert failures.describe(Invalid(problems)).messages == ("name: is empty", "is odd")


def test_columns_are_as_wide_as_their_widest_text_on_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("id", "name"), [("日本", "a"), ("é", ("x", "y")), (None, "")], empty="none")
    assert capsys.readouterr().out == "id    name\n日本  a\né     x, y\n–     –\n"


def test_a_terminal_gets_many_rows_without_a_frame(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    output.table(("id",), [(number,) for number in range(1000)], empty="none")
    assert "───" in capsys.readouterr().out
    output.table(("id",), [(number,) for number in range(1001)], empty="none")
    assert capsys.readouterr().out.splitlines()[:2] == ["id", "0"]


@pytest.mark.parametrize(("terminal_columns", "is_framed"), [(60, False), (80, False), (112, True)])
def test_a_terminal_that_is_too_narrow_for_a_table_gets_a_row_below_the_other(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal_columns: int, *, is_framed: bool
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(terminal_columns))
    ids = ["2a545228-a071-43d6-978e-b5af58e0c7f2", "698ff8da-a284-46b5-9cdc-96a920bec0a5"]
    at = datetime(2026, 11, 23, tzinfo=UTC)
    output.table(
        ("id", "name", "target", "updated"), [(each, "r", "https://shop.example.com/", at) for each in ids], empty=""
    )
    shown = click.unstyle(capsys.readouterr().out)
    assert ("───" in shown) == is_framed
    if not is_framed:
        assert shown == "\n".join(
            f"id       {each}\nname     r\ntarget   https://shop.example.com/\nupdated  2026-11-23 00:00:00.000000Z\n"
            for each in ids
        )
