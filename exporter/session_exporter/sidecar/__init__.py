"""The sidecar: drains the journal, keeps the state, serves the metrics."""
