"""From files of events to batches."""
