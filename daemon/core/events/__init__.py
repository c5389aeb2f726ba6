"""Domain events as producers publish them: validation, their JSON kept byte for byte, and the catalogue of types."""
