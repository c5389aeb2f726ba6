"""Seals, pure: the tree of hashes, what is hashed, a seal, a signed head, and a proof that anybody can check."""
