"""Events, their feed and sources, and the catalogue."""
