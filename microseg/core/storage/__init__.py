"""Where results of large runs lie: a folder, or a place in object storage."""
