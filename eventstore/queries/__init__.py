"""Queries over what was recorded: lists of deliveries, attempts, metrics, health, status.

Only `tally` and `route_health` write.
"""
