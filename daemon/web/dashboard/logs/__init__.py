"""Deliveries and events, and why each event was delivered to a webhook or was not."""
