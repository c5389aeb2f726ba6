"""Commands about events: publish, the catalogue of their types, sources of them."""
