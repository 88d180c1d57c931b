"""Generated customers whose truth is known."""
