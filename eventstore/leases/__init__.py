"""Which processes live, and which of them has the right to which shard."""
