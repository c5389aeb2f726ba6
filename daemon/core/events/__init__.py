"""Domain events as they come in, their JSON to the byte, and the catalogue of their types."""
