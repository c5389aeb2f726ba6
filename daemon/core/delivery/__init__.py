"""The rules of one delivery: what an answer means, when to retry or send again, the circuit breaker, and the texts.

The texts explain an outcome or a failure to a merchant.
"""
