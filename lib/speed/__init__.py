"""Time and memory: what is measured, how, and what the measurements say."""
