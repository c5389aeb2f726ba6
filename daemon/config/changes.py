"""What differs between two configurations, and whether a running daemon may change over from the one to the other.

The one thing to know: a key says so itself, by a `NeedsRestart` in its type (sections.py). A change of such a key
refuses all of the new configuration, because one of which a part is in effect is not what stands in any file.
"""

from collections.abc import Iterator

from daemon.config import event_sources
from daemon.config.loading import ConfigError
from daemon.config.sections import KEYS, NEEDS_RESTART, Config


def changed_keys(old: Config, new: Config) -> tuple[tuple[str, str], ...]:
    """Section and key of each value that differs. A source that is new or gone is a key of the section `sources`."""
    ordinary = (
        (section, key)
        for section, key in KEYS
        if getattr(getattr(old, section), key) != getattr(getattr(new, section), key)
    )
    return (*ordinary, *_of_sources(old, new))


def check_change(old: Config, new: Config) -> None:
    """Raises ConfigError with every key that a running daemon cannot change."""
    problems = tuple(
        f"{section}.{key}: {NEEDS_RESTART[section, key]}, so a reload cannot change it; "
        "restart the daemon, or set it back"
        for section, key in changed_keys(old, new)
        if (section, key) in NEEDS_RESTART
    )
    if problems:
        raise ConfigError(problems)


def _of_sources(old: Config, new: Config) -> Iterator[tuple[str, str]]:
    for name in sorted({*old.sources, *new.sources}):
        before, after = old.sources.get(name), new.sources.get(name)
        if before is None or after is None:
            yield event_sources.SECTION, name
            continue
        for key in type(after).model_fields:
            if getattr(before, key) != getattr(after, key):
                yield event_sources.PREFIX + name, key
