"""The progress of deliveries: outcomes, retries, parked rows, checkpoints, replays."""
