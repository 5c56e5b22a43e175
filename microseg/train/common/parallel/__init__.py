"""Processes that train: one for each fold, several for one fold, and how they are stopped."""
