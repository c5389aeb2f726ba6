"""Lists of deliveries, their attempts, and why they wait."""
