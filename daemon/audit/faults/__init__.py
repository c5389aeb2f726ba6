"""What somebody must have changed: each module looks at other rows, and says what of them cannot have come about."""
