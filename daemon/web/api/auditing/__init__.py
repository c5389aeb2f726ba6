"""Explanations, audits, seals and the route log."""
