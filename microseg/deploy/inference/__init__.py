"""A loaded engine for Python: fields in, arrays and fractions out."""
