"""Files of microscopes: CZI, DM3 and DM4 with the extra `formats`; others are known by name and not read."""
