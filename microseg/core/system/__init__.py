"""Files, processors, and what a machine is."""
