"""Queries over what was recorded: lists of deliveries, attempts, metrics, status. Only `route_metrics` writes."""
