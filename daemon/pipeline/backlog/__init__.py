"""What waits in the tables: parked deliveries, ranges of them, retries, replays, and what a disable ends."""
