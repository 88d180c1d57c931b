"""The encoder, the loop that trains it, and cross-validation."""
