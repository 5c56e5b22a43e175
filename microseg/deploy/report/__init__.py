"""The report folder: records, figures, page, masks and overlays."""
