"""Commands of the panel Measure."""
