"""Audits that were asked for, and proofs of deliveries."""
