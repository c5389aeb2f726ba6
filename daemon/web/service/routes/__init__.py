"""How routes do, and what they would send."""
