"""The generative model behind the synthetic events, how real they look, and the task that needs memory."""
