"""Archives: lists of fields, shards of them, and results as tables."""
