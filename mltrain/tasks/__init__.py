"""What is learned: data sets, collation, model, per-example losses and metrics. One file a task."""
