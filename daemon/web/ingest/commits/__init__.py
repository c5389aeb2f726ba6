"""Storing what is published: commits that requests share, and queues for what waits for others."""
