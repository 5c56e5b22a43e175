"""Commands of the panel Train."""
