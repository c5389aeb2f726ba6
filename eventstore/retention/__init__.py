"""Retention: what is dropped when, and how a delivery ends whose event is dropped."""
