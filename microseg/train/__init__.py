"""Domain and recipe to run."""
