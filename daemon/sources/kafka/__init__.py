"""What is Kafka: all of the client library that is used, and the formats in which batches are packed."""
