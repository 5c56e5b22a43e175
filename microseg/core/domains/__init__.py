"""Domain folders: images, masks, phases, groups."""
