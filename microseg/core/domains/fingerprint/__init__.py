"""What a labelled domain is like: sizes, phases, grey values, structure, and which of its fields are not independent."""
