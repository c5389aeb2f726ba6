"""The life of a delivery: answers, retries, the breaker, sending again, and how all of it is told."""
