"""Reads the log: those shards that keep up together, others apart."""
