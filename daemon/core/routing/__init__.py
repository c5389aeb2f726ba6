"""Who gets what: routes, their windows, the index over them, and the decision."""
