"""The rules for the host names of targets: their A-labels, and the names that never lead to a public receiver.

Pure; no name is resolved. A name of a local network is not wrong by itself: once the operator has allowed private
addresses, or the name, it is judged by the address it leads to. The one thing to know: a host is mapped label by label,
and no character becomes a dot or nothing. Otherwise parsers would disagree about what the host is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

import idna

MAX_NAME_CHARACTERS = 253
MAX_LABEL_CHARACTERS = 63

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_PATTERN = re.compile(r"(?:\*\.)?(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")

# They join letters of some scripts, and emoji. UTS 46 drops all other invisible characters.
_JOINERS = "\u200c\u200d"

# Ends of names that a private network may resolve by itself, and that public DNS never has: RFC 6761, 6762 with its
# appendix G, 8375, 9476, ICANN's .internal; svc and localdomain are what Kubernetes and libc make of single words.
_LOCAL = (
    "alt", "corp", "home", "home.arpa", "internal", "intranet", "lan", "local", "localdomain", "localhost", "private",
    "resolver.arpa", "service.arpa", "svc", "test",
)  # fmt: skip
# Ends of names that no network may resolve: RFC 6761 and 7686.
_NOWHERE = {
    "invalid": "the ending .invalid is reserved for names that do not exist",
    "onion": "the ending .onion belongs to Tor, and is not a name in DNS",
}


class NameProblem(ValueError):
    """Why a host is no name; the text is the cause and the next step."""


def a_labels(host: str) -> list[str]:
    """The labels of a host in lower case and ASCII, without a trailing dot. Raises NameProblem.

    Labels are mapped by UTS 46 and must then follow IDNA 2008. An A-label is taken as it is, also that of an emoji:
    some registries sell them and every resolver takes them, though IDNA 2008 has none.
    """
    labels = [label.lower() if label.isascii() else _a_label(label) for label in host.split(".")]
    if len(labels) > 1 and not labels[-1]:
        labels.pop()
    if len(".".join(labels)) > MAX_NAME_CHARACTERS or any(len(label) > MAX_LABEL_CHARACTERS for label in labels):
        raise NameProblem(
            f"The host is too long: a name has at most {MAX_NAME_CHARACTERS} characters, and {MAX_LABEL_CHARACTERS} "
            "between two dots; use a shorter one."
        )
    if not all(map(_is_label, labels)):
        raise NameProblem("The host is not a valid name; check it for typing errors.")
    return labels


def local_because(name: str) -> str | None:
    """Why a name is one of a local network, None if it may be in public DNS."""
    if "." not in name:
        return "localhost is this machine" if name == "localhost" else "it is a single word"
    ending = next((each for each in _LOCAL if f".{name}".endswith(f".{each}")), None)
    return None if ending is None else f"public DNS has no .{ending}"


def nowhere_because(name: str) -> str | None:
    """Why no network resolves a name, None if one may."""
    return _NOWHERE.get(name.rpartition(".")[2])


def is_listed(name: str, patterns: Iterable[str]) -> bool:
    """True if a pattern is the name, or `*.suffix` with a suffix that it ends with."""
    return any(name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern for pattern in patterns)


def pattern_problem(pattern: str) -> str | None:
    """Why a text is no pattern for `is_listed`, None if it is one."""
    if len(pattern) <= MAX_NAME_CHARACTERS and _PATTERN.fullmatch(pattern):
        return None
    return f"{pattern!r} is no host such as receiver or hooks.internal, nor *. and a suffix such as *.svc.cluster.local"


def _is_label(label: str) -> bool:
    if not _LABEL.fullmatch(label):
        return False
    if not label.startswith("xn--"):
        return True
    try:
        meant = label[4:].encode().decode("punycode")
    except UnicodeError:
        return False
    return not meant.isascii() and not any(unicodedata.category(each) in ("Cc", "Cs") for each in meant)


def _a_label(label: str) -> str:
    is_hidden = any(unicodedata.category(each) == "Cf" and each not in _JOINERS for each in label)
    try:
        mapped = "" if is_hidden else idna.uts46_remap(label, std3_rules=True)
    except (idna.IDNAError, UnicodeError):
        mapped = ""
    if not mapped or "." in mapped:
        raise NameProblem("The host has a character that names do not have; check it for typing errors.")
    if mapped.isascii():
        return mapped
    try:
        return idna.alabel(mapped).decode()
    except (idna.IDNAError, UnicodeError):
        pass
    written = f"xn--{mapped.encode('punycode').decode()}"
    advice = (
        f"; if it is registered so, write {written} for {label}" if _LABEL.fullmatch(written) else "; use another name"
    )
    raise NameProblem(f"The host has characters that IDNA 2008 does not allow{advice}.")
