"""`hookledger demo`: the command, its receiver and its story."""
