"""Sinks for metrics and artifacts. `metrics.jsonl` comes first; every other sink follows it."""
