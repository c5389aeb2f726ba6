"""The base of all handlers: bodies, parameters, paging, problems, declarations of endpoints, listeners."""
