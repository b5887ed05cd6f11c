"""What sources and sinks share: their protocols, options, secrets, HTTP, Kafka, records as JSON."""
