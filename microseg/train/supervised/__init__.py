"""`microseg train supervised`: labelled fields to a bag of folds."""
