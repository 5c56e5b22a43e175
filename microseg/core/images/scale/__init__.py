"""The scale that files state: where each vendor writes it, and whether the statements agree with each other and the picture."""
