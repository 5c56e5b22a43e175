"""What looks at runs and recipes: `study`, `evaluate`, `explain`, `preview`."""
