"""Scores of the trained networks with their uncertainty, held against classical references."""
