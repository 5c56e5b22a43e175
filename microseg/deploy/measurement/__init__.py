"""Statistics of measured fields."""
