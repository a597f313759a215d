"""What operators see: events in the log, metrics, and the health of one worker."""
