"""Whether two ways to compute the same labels agree: differences, checks, limits and the one gate error. No torch."""
