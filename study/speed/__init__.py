"""Time and memory of the mechanisms."""
