"""What can go wrong between us and PostgreSQL, named by what the caller can do about it.

    StoreError                   every error of this package
    ├── StoreUnavailable         PostgreSQL does not answer now: wait and try again
    │   ├── AccessRefused        it answers, but not to this user, password or database
    │   ├── Deadlocked           two transactions waited for each other, and this one was ended: begin it again
    │   └── EmbeddedUnavailable  the embedded server cannot be started
    │       └── EmbeddedMisconfigured  not as configured or installed: trying again changes nothing
    ├── MalformedUrl             the database URL is none that can be used
    ├── SchemaMismatch           the database is not, or no longer, what this version works with
    ├── UnsafeServer             the server is configured to lose what it acknowledged
    ├── VersionConflict          somebody else changed this route or catalogue first
    ├── RequestReused            a request id that stands for another command
    ├── ReplayRunning            the route has a replay that is not done
    ├── ValueRefused             a value the schema does not take
    └── ChainBroken              the route log is not what was written

`hint` says what to try next, in the imperative, without a full stop. No error of the driver leaves this package.
"""

from __future__ import annotations


class StoreError(Exception):
    """`str()` is the cause in one sentence; `hint` the next step, empty if there is none to give."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class StoreUnavailable(StoreError):
    """PostgreSQL does not answer now."""


class AccessRefused(StoreUnavailable):
    """PostgreSQL answers and refuses: user, password, database or privilege."""


class Deadlocked(StoreUnavailable):
    """PostgreSQL ended this transaction, since it and another one waited for each other."""


class EmbeddedUnavailable(StoreUnavailable):
    """The embedded PostgreSQL cannot be started."""


class EmbeddedMisconfigured(EmbeddedUnavailable):
    """It cannot be started from this data directory, by this user, or from what is installed."""


class MalformedUrl(StoreError):
    """The database URL, or an option in it, is not understood."""


class SchemaMismatch(StoreError):
    """No schema, an older or a newer one, or a database restored elsewhere."""


class UnsafeServer(StoreError):
    """The server would lose acknowledged writes in a crash."""


class VersionConflict(StoreError):
    """The expected version is no longer the last one, of a route or of the catalogue."""


class RequestReused(StoreError):
    """The request id was used before."""


class ReplayRunning(StoreError):
    """A route has one replay at a time."""


class ValueRefused(StoreError):
    """A check constraint of the schema refused a value."""


class ChainBroken(StoreError):
    """A hash, a position or a version of the route log does not follow from the one before."""

    def __init__(self, message: str, *, pos: int) -> None:
        super().__init__(message, hint="compare the log with a backup from before the change")
        self.pos = pos
