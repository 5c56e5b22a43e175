"""A field list on a Ray cluster."""
