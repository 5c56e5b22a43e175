"""An alarm that predicts the error of a field's fractions from what a station has, without labels."""
