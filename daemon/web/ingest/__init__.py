"""POST /v1/events: reading events within limits, and storing them in transactions that requests share."""
