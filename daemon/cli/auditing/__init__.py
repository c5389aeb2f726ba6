"""Commands for auditors: rebuild, explain, audit, verify."""
