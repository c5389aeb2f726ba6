"""How a server is reached: the URL, which of its servers is the primary, the connection itself."""
