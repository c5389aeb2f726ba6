"""The rules of routing and delivery as pure functions, without clock, randomness, I/O or await.

The current time, random numbers and rows come in as arguments, so every rule can be tested by a plain call.
"""
