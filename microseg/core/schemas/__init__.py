"""Schemas of the files that stages hand to each other."""
