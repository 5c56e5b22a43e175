"""Field lists: made once, read in batches, cut into shards."""
