"""`microseg train uda`: adaptation to a target without labels."""
