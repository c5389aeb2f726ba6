"""The progress of deliveries: leases, outcomes, retries, parked rows, checkpoints, replays, retention."""
