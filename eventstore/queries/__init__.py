"""Reading what was recorded: lists of deliveries, attempts, metrics, status."""
