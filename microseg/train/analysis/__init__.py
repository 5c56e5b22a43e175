"""Analysis of runs and recipes: `study`, `evaluate`, `explain`, `preview`."""
