"""Figures of predictions against references: `evaluate.Metric` modules of our own."""
