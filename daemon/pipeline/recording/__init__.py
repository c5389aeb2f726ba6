"""What became of attempts, written in batches, each in one fenced statement."""
