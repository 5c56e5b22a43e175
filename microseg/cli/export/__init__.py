"""Commands of the panel Export."""
