"""The one preparation of training and station, and tiles."""
