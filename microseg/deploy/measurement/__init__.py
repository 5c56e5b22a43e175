"""Statistics of a measurement."""
