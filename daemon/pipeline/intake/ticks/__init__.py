"""Ticks: what is known of the log, the loop that makes the next tick, and events that make theirs themselves."""
