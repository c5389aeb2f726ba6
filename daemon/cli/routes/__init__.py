"""`hookledger routes`: the commands, their options, and how a route is printed."""
