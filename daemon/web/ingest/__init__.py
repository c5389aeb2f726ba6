"""What is published on its way into the log: bodies in pieces, transactions shared by many requests."""
