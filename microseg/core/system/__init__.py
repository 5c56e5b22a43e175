"""Files, processors, and the facts of a machine."""
