"""Whether two ways to compute the same labels agree: tolerances, comparisons, limits. No torch."""
