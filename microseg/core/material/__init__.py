"""Which pixels of a picture show material."""
