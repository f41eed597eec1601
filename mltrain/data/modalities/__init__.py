"""Stimuli and responses that were recorded together: one memory-mapped array each, on one timeline."""
