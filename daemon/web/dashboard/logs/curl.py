"""A request as a command for a POSIX shell, to send it again from a terminal.

The body goes as an argument if it can be one: `--data-raw`, because `--data` would take a body that begins with `@` for
the name of a file. A shell's arguments are text without NUL, and Linux takes at most 128 KiB for one of them. So what
is no text is written by `printf` in octal and piped to `--data-binary @-`, which changes no byte; and what is too long
comes from a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

LONGEST_ARGUMENT_BYTES = 100_000

# What curl would expand in a URL, were it not told to leave it.
_GLOB = re.compile(r"[\[\]{}]")

_CONTINUED = " \\\n  "


def command(url: str, headers: Mapping[str, str], body: bytes, *, file: str | None = None) -> str:
    """The command; the body is read from `file` if one is named."""
    text = None if file else _argument(body)
    options = [f"curl {_globoff(url)}{quoted(url)}", *(f"-H {quoted(_header(*each))}" for each in headers.items())]
    if file is not None:
        return _CONTINUED.join([*options, f"--data-binary {quoted('@' + file)}"])
    if text is not None:
        return _CONTINUED.join([*options, f"--data-raw {quoted(text)}"])
    return f"printf {quoted(_octal(body))} | " + _CONTINUED.join([*options, "--data-binary @-"])


def quoted(text: str) -> str:
    """One word of a POSIX shell, whatever is in it but NUL."""
    return "'" + text.replace("'", "'\\''") + "'"


def _argument(body: bytes) -> str | None:
    """The body as an argument; None if it cannot be one."""
    if b"\0" in body or len(body) > LONGEST_ARGUMENT_BYTES:
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def _globoff(url: str) -> str:
    return "--globoff " if _GLOB.search(url) else ""


def _header(name: str, value: str) -> str:
    """Curl takes `Name:` as the wish to send no such header; an empty one is `Name;`."""
    return f"{name}: {value}" if value.strip() else f"{name};"


def _octal(body: bytes) -> str:
    """A format of printf that gives these bytes: what is not plain is in octal, and so is what printf reads itself."""
    return "".join(chr(byte) if 0x20 <= byte < 0x7F and byte not in b"%\\" else f"\\{byte:03o}" for byte in body)
