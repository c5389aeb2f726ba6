"""Which route receives which event: routes and their windows, the index over them, and the decision."""
