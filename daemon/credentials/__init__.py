"""Keys of routes and seals under the master key, and tokens of the API."""
