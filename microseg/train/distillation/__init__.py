"""`microseg distill`: a bag to one small network."""
