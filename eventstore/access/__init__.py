"""API tokens and dashboard sessions: hashes, never secrets."""
