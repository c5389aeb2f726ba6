"""The pages of operators: tenants, tokens, event types, status."""
