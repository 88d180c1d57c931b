"""What a continuous memory keeps of the past."""
