"""The HTTP API under /v1: handlers by subject, and the shapes of their answers."""
