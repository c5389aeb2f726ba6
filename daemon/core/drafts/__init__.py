"""Drafts of routes and tokens as a caller submits them. They are validated as a whole: all problems come at once."""
