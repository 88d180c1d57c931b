"""Scores with their uncertainty, classical references and comparisons."""
