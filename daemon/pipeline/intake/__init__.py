"""Reads the logs into memory: ticks, the live projection, the tail, and the decision about each event."""
