"""Access control: tokens, sessions, rate limits, and a log line for each refused request."""
