"""Reads raw values and where they were set, from the file and then from the environment, which overrides it.

The one thing to know: both are read to their end. Unknown or unreadable content becomes a problem of one line (where,
what is wrong, what to do), and the rest is still used.
"""

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from daemon.config import event_sources
from daemon.config.event_sources import SourceSection
from daemon.config.sections import KEYS, SECTIONS, is_secret, model_of

PREFIX: Final = "HOOKLEDGER_"

# Some editors begin a text with a byte order mark, which belongs to no key and to no secret.
_ENCODING: Final = "utf-8-sig"

_OF_EVENT_SOURCE: Final = re.compile(rf"{PREFIX}SOURCES__(?P<name>[A-Z0-9_]+?)__[A-Z]")

_USED_UP: Final = "it is a pipe, which cannot be read a second time; restart the daemon"
_SEE_ALL: Final = "; see `hookledger config show` for what there is"
# Variables with our prefix that are no settings: those in place of an option of a command, the tests' variables, and
# those that Kubernetes and Docker links set in every container when a service is called "hookledger".
_NOT_SETTINGS: Final = re.compile(
    r"HOOKLEDGER_(CONFIG|TOKEN|URL|LISTEN_KEY|TEST_.*|SERVICE_(HOST|PORT).*|PORT(_\d+_.*)?)"
)


@dataclass(frozen=True, slots=True)
class GivenValue:
    """A raw value and where it was set."""

    value: object
    where: str


class GivenValues(dict[tuple[str, str], GivenValue]):
    """The raw values by section and key."""

    def where(self, section: str, key: str) -> str:
        return self[section, key].where if (section, key) in self else f"{section}.{key}"


def read_file(path: Path, given: GivenValues, problems: list[str], *, is_again: bool = False) -> None:
    """`is_again` if this process has read it before."""
    if is_again and _is_used_up(path):
        problems.append(f"{path}: {_USED_UP}")
        return
    try:
        document = tomllib.loads(path.read_text(encoding=_ENCODING))
    except OSError as error:
        problems.append(f"{path}: {error.strerror}; check the path given with --config")
        return
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(f"{path}: not TOML: {error}; correct the file")
        return
    except RecursionError:
        problems.append(f"{path}: not TOML: it is nested too deeply; correct the file")
        return
    for section, keys in document.items():
        if section == event_sources.SECTION:
            _read_event_sources(keys, path, given, problems)
        elif section not in SECTIONS:
            known = (*SECTIONS, event_sources.SECTION)
            meant = did_you_mean(section, known, otherwise=f"; there are {', '.join(known)}")
            problems.append(f"{path}: unknown section [{section}]{meant}")
        elif not isinstance(keys, dict):
            problems.append(f"{path}: {section} is a section; write [{section}] and its keys below")
        else:
            _read_section(section, keys, path, given, problems)


def _read_event_sources(sources: object, path: Path, given: GivenValues, problems: list[str]) -> None:
    for name, keys in sources.items() if isinstance(sources, dict) else [("<name>", None)]:
        if not isinstance(keys, dict):
            problems.append(
                f"{path}: {event_sources.SECTION} has a section for each source; write [{event_sources.PREFIX}{name}]"
            )
        elif (problem := event_sources.name_problem(name)) is not None:
            problems.append(f"{path}: [{event_sources.PREFIX}{name}]: {problem}")
        else:
            _read_section(event_sources.PREFIX + name, keys, path, given, problems)


def _read_section(section: str, keys: dict[str, object], path: Path, given: GivenValues, problems: list[str]) -> None:
    known = model_of(section).model_fields
    for key, value in keys.items():
        if key in known:
            given[section, key] = GivenValue(value, f"{path}: {section}.{key}")
        else:
            meant = did_you_mean(key, known, otherwise=f"; there are {', '.join(known)}")
            problems.append(f"{path}: unknown key {section}.{key}{meant}")


def read_environment(
    environ: Mapping[str, str], given: GivenValues, problems: list[str], *, is_again: bool = False
) -> None:
    """An empty variable counts as absent, because compose files and units pass unset variables as empty texts.

    `is_again` if this process has read the files that they name before.
    """
    known = {_variable(section, key): (section, key) for section, key in (*KEYS, *_keys_of_event_sources(environ))}
    from_file = {f"{name}_FILE": key for name, key in known.items() if is_secret(*key)}
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX) or _NOT_SETTINGS.fullmatch(name) or not text:
            continue
        if name in known:
            given[known[name]] = GivenValue(text, name)
        elif name not in from_file:
            problems.append(f"{name}: unknown variable{did_you_mean(name, [*known, *from_file])}")
        elif environ.get(name.removesuffix("_FILE")):
            problems.append(f"{name}: {name.removesuffix('_FILE')} is set too; remove one of them")
        elif is_again and _is_used_up(Path(text)):
            problems.append(f"{name}: {text}: {_USED_UP}")
        else:
            try:
                secret = Path(text).read_text(encoding=_ENCODING).strip()
                if not secret:
                    problems.append(f"{name}: {text} is empty; write the secret into it, or leave the variable out")
                    continue
                given[from_file[name]] = GivenValue(secret, name)
            except (OSError, UnicodeDecodeError) as error:
                cause = error.strerror if isinstance(error, OSError) else "not a text file"
                problems.append(f"{name}: {text}: {cause}; name a file that this user may read")


def _is_used_up(path: Path) -> bool:
    """Whether this was a pipe. What is left in it is nothing, which would be a configuration, too, or never comes."""
    try:
        return path.is_fifo()
    except OSError:  # reading it says so
        return False


def _variable(section: str, key: str) -> str:
    return f"{PREFIX}{section.replace('.', '__')}__{key}".upper()


def _keys_of_event_sources(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """All keys of each source that a variable names."""
    named = (_OF_EVENT_SOURCE.match(name) for name in environ)
    names = {found["name"].lower() for found in named if found is not None}
    valid = sorted(name for name in names if event_sources.name_problem(name) is None)
    return [(event_sources.PREFIX + name, key) for name in valid for key in SourceSection.model_fields]


def default_data_dir(environ: Mapping[str, str], given: GivenValues, problems: list[str]) -> None:
    """Sets the default by the XDG specification, and expands `~` with HOME of the given environment."""
    home = environ.get("HOME")
    chosen = given.get(("database", "data_dir"))
    if chosen is not None:
        if home and isinstance(chosen.value, str) and chosen.value.startswith("~/"):
            given["database", "data_dir"] = GivenValue(f"{home}/{chosen.value[2:]}", chosen.where)
        return
    base = environ.get("XDG_DATA_HOME") or (f"{home}/.local/share" if home else None)
    if base is None:
        problems.append("database.data_dir: there is no HOME to put it in; set HOOKLEDGER_DATABASE__DATA_DIR")
        base = "/nonexistent"
    given["database", "data_dir"] = GivenValue(f"{base}/hookledger", "XDG_DATA_HOME")


def did_you_mean(wrong: str, known: Iterable[str], *, otherwise: str = _SEE_ALL) -> str:
    by_lower_case = {name.lower(): name for name in known}
    close = difflib.get_close_matches(wrong.lower(), list(by_lower_case), n=1, cutoff=0.6)
    return f"; did you mean {by_lower_case[close[0]]}?" if close else otherwise
