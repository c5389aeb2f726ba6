"""The errors of the event store, named by what the caller can do about them.

    StoreError                   every error of this package
    ├── StoreUnavailable         PostgreSQL does not answer now: wait and try again
    │   ├── AccessRefused        it answers, but not to this user, password or database
    │   ├── Standby                  it answers, but takes no writes: another server is the primary
    │   ├── FormerPrimary        it takes writes, and another server was promoted since
    │   ├── Saturated            too many queries run at once already, and this one was not begun
    │   ├── Locked               another transaction keeps a lock that this one needs
    │   │   └── IdHeld               it has published an event of the same id, and has not ended
    │   ├── Deadlocked           two transactions waited for each other, and this one was ended: repeat it
    │   └── EmbeddedUnavailable  the embedded server cannot be started
    │       └── EmbeddedMisconfigured  not as configured or installed: trying again changes nothing
    ├── MalformedUrl             the database URL cannot be parsed
    ├── SchemaMismatch           this version cannot work with the schema or the cluster of the database
    ├── UnsafeServer             the server is too old, or not one that keeps every text and every write
    ├── VersionConflict          another command changed this route or the catalogue first
    ├── RequestReused            the request id was used by an earlier command
    ├── ReplayRunning            the route has a replay that is still running
    ├── ValueRefused             the schema refused a value
    ├── NotAuthentic             a token, session or login link was not made with the master key (access/macs.py)
    └── ChainBroken              the route log was changed after it was written

`hint` says what to try next, in the imperative, without a full stop. No error of the driver leaves this package:
`Database.connection` translates them (`translated` in eventstore/postgres/connect.py).
"""

from __future__ import annotations


class StoreError(Exception):
    """`str()` is the cause in one sentence; `hint` is the next step, or empty."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class StoreUnavailable(StoreError):
    """PostgreSQL does not answer now."""


class AccessRefused(StoreUnavailable):
    """PostgreSQL answers and refuses: user, password, database or privilege."""


class Standby(StoreUnavailable):
    """The server is a standby, and takes no writes."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"PostgreSQL at {where} is a standby, and so read-only",
            hint="let database.url lead to the primary, or name all servers in it: postgresql://h1:5432,h2:5432/name",
        )


class FormerPrimary(StoreUnavailable):
    """The server takes writes, and another one was promoted since: what it gets would be lost."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"a former primary of {where} takes writes, and another server was promoted since",
            hint="start that one, and make the former one its standby (pg_rewind) or remove it from database.url",
        )


class Saturated(StoreUnavailable):
    """Too many queries run at once, of one party or of all: this one was not begun."""


class Locked(StoreUnavailable):
    """Another transaction keeps a lock that this one needs."""


class IdHeld(Locked):
    """A transaction that has not ended has published an event of the same tenant and id: only its end tells whether
    this one is new.
    """

    def __init__(self) -> None:
        super().__init__(
            "a transaction that has not ended has published an event of the same tenant and id",
            hint="end it; look for it in pg_stat_activity",
        )


class Deadlocked(StoreUnavailable):
    """PostgreSQL ended this transaction, since it and another one waited for each other."""


class EmbeddedUnavailable(StoreUnavailable):
    """The embedded PostgreSQL cannot be started."""


class EmbeddedMisconfigured(EmbeddedUnavailable):
    """The data directory, the user or the installed packages do not allow a start: trying again changes nothing."""


class MalformedUrl(StoreError):
    """The database URL, or an option in it, is not understood."""


class SchemaMismatch(StoreError):
    """No schema, an older or a newer one, or a database restored elsewhere."""


class UnsafeServer(StoreError):
    """The server is too old, keeps not every text, or would lose acknowledged writes in a crash."""


class VersionConflict(StoreError):
    """The expected version of a route, or edition of the catalogue, is no longer the newest."""


class RequestReused(StoreError):
    """The request id was used by an earlier command."""


class ReplayRunning(StoreError):
    """The route has a running replay, and may have only one at a time."""


class ValueRefused(StoreError):
    """A constraint of the schema or the type of a column refused a value."""


class ChainBroken(StoreError):
    """A row of the route log does not follow from the row before. `pos` is its position."""

    def __init__(self, message: str, *, pos: int) -> None:
        super().__init__(message, hint="compare the log with a backup from before the change")
        self.pos = pos
