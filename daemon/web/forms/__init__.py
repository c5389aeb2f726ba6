"""What requests may contain: pydantic models, and validation messages in our own words."""
