"""Events as people read them: lists, those that a route missed, test events, a search by a field of the data."""
