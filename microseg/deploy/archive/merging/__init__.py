"""The results of all shards together: each field once, tables, figures and the page."""
