"""The whole installation: what fails, what to heed, whose an id is, tokens."""
