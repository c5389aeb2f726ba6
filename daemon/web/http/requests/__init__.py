"""What is read of a request: its parameters and its body, unpacked within a limit."""
