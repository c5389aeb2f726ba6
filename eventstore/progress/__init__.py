"""What is done and what is still to do: leases, outcomes, retries, parked rows, checkpoints, retention."""
