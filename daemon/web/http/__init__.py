"""What every handler stands on: bodies, parameters, paging, problems, declarations of endpoints, sockets."""
