"""Queries over what was recorded: lists of deliveries, attempts, metrics, health, status, audits."""
