"""Every command in a document can be typed as it stands there: programs, files, and the options of our own.

Those that need no engine of containers are run as well: tests/acceptance/test_documents.py.
"""

from __future__ import annotations

import contextlib
import importlib.util
import re
import stat
import tomllib
from pathlib import Path

import click
import pytest
import yaml

from daemon.cli.main import COMMANDS, cli
from tests.support.processes.documents import DEPLOY, DOCUMENTS, ROOT, Typed, blocks, typed

ALL = typed()
WHOLE = [each for each in ALL if each.is_whole]

# What stands for a value of the reader's own, and a value for it.
STAND_INS = {
    "COMMAND": "run",
    "EVENT_ID": "evt_1",
    "FILE": "file",
    "FILE_OR_URL": "file",
    "HEAD": f"1:{'0' * 64}",
    "ID": "018f6d3e-7c1a-4a5b-9d2e-3f4a5b6c7d8e",
    "TEXT": "text",
    "TOKEN": "token",
}
# Code that begins with our name and is no command.
NO_COMMANDS = {("hookledger", "…"), ("hookledger", "seal", "key")}
# Who runs the commands in blocks: a test of this file parses what it names, test_documents.py runs the others.
PARSED = {"docker", "kubectl", "pytest", "tests"}
RUN = {
    "createdb", "createuser", "curl", "export", "hookledger", "install", "pg_dump", "pg_restore", "pip", "psql", "python3",
    "systemctl", "useradd",
}  # fmt: skip


def our_commands() -> list[Typed]:
    """Those of ours, also if another program starts them."""
    found = []
    for each in ALL:
        words = (
            each.words[each.words.index("--") + 1 :] if each.program == "kubectl" and "--" in each.words else each.words
        )
        if Path(words[0]).name == "hookledger" and words not in NO_COMMANDS:
            found.append(Typed(words=words, where=each.where, is_whole=each.is_whole))
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("command", our_commands(), ids=str)
def test_a_command_of_ours_is_parsed(command: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = [STAND_INS.get(word, word) for word in command.words[1:]]
    for word in words:
        if word == "file" or re.fullmatch(r"\w+\.(json|ndjson)", word):
            (tmp_path / word).touch()
    try:
        parse(words)
    except click.MissingParameter:
        if command.is_whole:  # a sentence may name a command without its arguments
            raise


def parse(words: list[str]) -> None:
    """Parses what a command line has, and runs nothing. Raises UsageError."""
    command: click.Command = cli
    context = click.Context(cli, info_name="hookledger")
    while isinstance(command, click.Group):
        if not words:
            raise click.UsageError("a command is missing")
        found = command.get_command(context, words[0])
        if found is None:
            raise click.UsageError(f"there is no command {words[0]}")
        context, command, words = click.Context(found, parent=context, info_name=words[0]), found, words[1:]
    with contextlib.suppress(click.exceptions.Exit):  # --help
        command.make_context(command.name, list(words), parent=context.parent)


@pytest.mark.parametrize(
    "words", [["run", "--worker", "4"], ["nothing"], ["token", "remove", "x"], ["explain", "a", "b"]]
)
def test_a_command_that_does_not_exist_would_be_found(words: list[str]) -> None:
    with pytest.raises(click.UsageError):
        parse(words)


def test_every_command_is_known_to_a_test() -> None:
    assert {each.program for each in WHOLE} == PARSED | RUN


def test_no_block_without_a_language_has_a_command() -> None:
    pictures = [block for document in DOCUMENTS for block in blocks(document, language="")]
    begin = re.compile(rf"^\$? ?[./\w-]*\b({'|'.join(PARSED | RUN)}) ", re.MULTILINE)
    assert [block for block in pictures if begin.search(block)] == []


def test_every_command_of_ours_is_in_the_list_of_commands() -> None:
    named = {each.words[1] for each in our_commands() if not each.words[1].startswith("-")}
    assert named - {"COMMAND"} <= set(COMMANDS)


@pytest.mark.parametrize("command", [each for each in WHOLE if each.program in PARSED], ids=str)
def test_a_file_that_a_command_names_is_there(command: Typed) -> None:
    named = [word.partition("=")[2] or word for word in command.words[1:]]
    paths = [word for word in named if "/" in word and word.partition("/")[0] in {".ci", "deploy", "tests"}]
    paths += [command.words[0]] if command.words[0].startswith(".ci/") else []
    assert [path for path in paths if not (ROOT / path).exists()] == []
    if command.words[0].startswith(".ci/"):
        assert (ROOT / command.words[0]).stat().st_mode & stat.S_IXUSR


@pytest.mark.parametrize("command", [each for each in WHOLE if each.program == "kubectl"], ids=str)
def test_what_kubectl_is_told_about_is_in_the_manifests(command: Typed) -> None:
    manifests = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    there = {f"{each['kind'].lower()}/{each['metadata']['name']}" for each in manifests}
    assert {word for word in command.words if re.fullmatch(r"[a-z]+/hookledger", word)} <= there


@pytest.mark.parametrize("command", [each for each in WHOLE if each.program == "pip"], ids=str)
def test_an_extra_that_is_installed_is_declared(command: Typed) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word in command.words:
        for names in re.findall(r"\[(.*)\]", word):
            assert set(names.split(",")) <= set(extras)


def test_a_benchmark_that_is_named_exists() -> None:
    for document in DOCUMENTS:
        for names in re.findall(r"`python -m tests\.benchmarks ([a-z ]+)`", document.read_text()):
            assert [
                name for name in names.split() if importlib.util.find_spec(f"tests.benchmarks.{name}") is None
            ] == []
