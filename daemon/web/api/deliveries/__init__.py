"""Deliveries, and sending them again."""
