"""The test kit for those who write transports, workers and services of their own."""
