"""Forms: pydantic models of request bodies, and validation messages in our own words."""
