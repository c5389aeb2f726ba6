"""Counts and rates of requests, the health of receivers, the status. Only `tally` and `route_health` write."""
