"""Batches of messages: fetched, made into events, taken into the log."""
