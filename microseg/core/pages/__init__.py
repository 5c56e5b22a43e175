"""The look that all pages share: one template base and one style."""
