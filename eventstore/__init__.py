"""The event store: everything Hookledger remembers, and all of its SQL.

It has never heard of HTTP, and nothing above it sees a driver's type or error.
"""
