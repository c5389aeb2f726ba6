"""One attempt: gate, render, sign, send, classify, and the connection that it uses."""
