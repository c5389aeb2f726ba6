"""Heads of the log of seals that somebody else keeps: their file, and how a log is held against them."""
