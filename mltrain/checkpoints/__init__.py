"""Checkpoints that are whole or absent: commit protocol, manifest, retention, loading."""
