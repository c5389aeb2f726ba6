"""`hookledger listen`: a tenant's events, posted to a program on this machine."""
