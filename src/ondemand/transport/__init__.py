"""Moving records: the seams (``base``), and who implements them: Kafka, and a broker in memory."""
