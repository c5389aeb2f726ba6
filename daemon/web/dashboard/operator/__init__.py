"""For whoever runs Hookledger: tenants, tokens, event types, status."""
