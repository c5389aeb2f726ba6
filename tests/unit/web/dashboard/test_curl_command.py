import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.web.dashboard.logs.timeline import LONGEST_ARGUMENT_BYTES, curl_command, quoted

URL = "https://shop.example.com/hook?x=1&y=$HOME"

# A fake curl that prints its arguments and its input.
FAKE = """#!/bin/sh
for each in "$@"; do printf '%s\\0' "$each"; done >"$OUT.argv"
case "$*" in *@-*) cat >"$OUT.stdin";; esac
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("bin")
    (made / "curl").write_text(FAKE)
    (made / "curl").chmod(0o755)
    return made


def run(folder: Path, text: str) -> tuple[list[bytes], bytes]:
    """The arguments that curl gets from a shell, and its input."""
    out = folder / "out"
    for suffix in ("argv", "stdin"):
        out.with_suffix(f".{suffix}").unlink(missing_ok=True)
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "OUT": str(out), "HOME": "/wrong", "LC_ALL": "C.UTF-8"}
    subprocess.run(["sh"], input=text.encode(), check=True, env=environment, capture_output=True)
    fed = out.with_suffix(".stdin")
    return out.with_suffix(".argv").read_bytes().split(b"\0")[:-1], fed.read_bytes() if fed.exists() else b""


def body_of(arguments: list[bytes], fed: bytes) -> bytes:
    last, value = arguments[-2:]
    return {b"--data-raw": value, b"--data-binary": fed}[last]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"a": "it\'s"}',
        b"@/etc/passwd",
        b"$(id) `id` ${HOME} !! \\n \\",
        b"two\nlines\r\n\n",
        "grüß 🙂 \u2028".encode(),
        b"\x00\x01\xff 100% \\101",
        b"-\x00",
    ],
)
def test_the_shell_hands_over_every_byte_of_a_body(folder: Path, body: bytes) -> None:
    assert body_of(*run(folder, curl_command(URL, {}, body))) == body


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda it: it.encode("utf-8", "surrogatepass")))
def test_the_shell_hands_over_any_body(folder: Path, body: bytes) -> None:
    assert body_of(*run(folder, curl_command(URL, {}, body))) == body


def test_url_and_headers_arrive_as_they_are(folder: Path) -> None:
    arguments, _ = run(folder, curl_command(URL, {"X-Shop": 'it\'s $HOME "`id`"', "X-Empty": ""}, b"{}"))

    assert arguments == [
        URL.encode(), b"-H", b"X-Shop: it's $HOME \"`id`\"", b"-H", b"X-Empty;", b"--data-raw", b"{}",
    ]  # fmt: skip


def test_curl_does_not_expand_a_url(folder: Path) -> None:
    arguments, _ = run(folder, curl_command("https://a.example/{1,2}[3]", {}, b"{}"))

    assert arguments[:2] == [b"--globoff", b"https://a.example/{1,2}[3]"]


def test_a_body_too_long_for_an_argument_is_piped_and_one_with_a_file_is_read_from_it(folder: Path) -> None:
    long = b"x" * (LONGEST_ARGUMENT_BYTES + 1)

    arguments, fed = run(folder, curl_command(URL, {}, long))
    assert (arguments[-2:], fed) == ([b"--data-binary", b"@-"], long)

    arguments, _ = run(folder, curl_command(URL, {}, b"{}", file="it's a body.json"))
    assert arguments[-2:] == [b"--data-binary", b"@it's a body.json"]


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=100))
def test_a_quoted_text_is_one_word(folder: Path, text: str) -> None:
    arguments, _ = run(folder, f"curl {quoted(text)}")

    assert arguments == [text.encode()]
