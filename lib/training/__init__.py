"""The encoder, its variants, the training loop, and looks inside trained models."""
