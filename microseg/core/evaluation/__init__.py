"""Scores of labels against the truth."""
