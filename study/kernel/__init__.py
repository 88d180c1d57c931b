"""What random features lose of the softmax kernel."""
