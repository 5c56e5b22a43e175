"""Statistics of fields without labels: gains of one bag over another, and fractions from probabilities."""
