"""Commands of the panel Look at data."""
