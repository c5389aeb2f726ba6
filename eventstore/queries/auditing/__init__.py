"""What an audit reads: events with all that is recorded of them, rows that belong to none, the marks of the logs."""
