"""Seals: made by a daemon, proven to anybody, kept elsewhere, audited. What they say is in daemon/core/sealing."""
