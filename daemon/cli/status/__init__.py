"""`hookledger status`: the state of the installation, once or as a table that follows it."""
