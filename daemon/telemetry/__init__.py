"""What a daemon tells of itself: log lines, metrics, spans for OpenTelemetry."""
