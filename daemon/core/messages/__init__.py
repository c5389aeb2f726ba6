"""Messages of Kafka, read as domain events."""
