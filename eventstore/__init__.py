"""The event store: everything that Hookledger stores in PostgreSQL, and all of its SQL.

It knows nothing of HTTP. No type and no error of the database driver is visible above it. README.md describes it.
"""
