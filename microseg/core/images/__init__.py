"""Image files to pixels, and the images of a folder."""
