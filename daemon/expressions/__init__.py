"""Evaluates heavy JMESPath expressions in a process of its own, since threads would share the interpreter's lock.

What is cheap stays on the event loop: a `StepAllowance` says how much (daemon.core.webhook.expression).
"""
