"""Engine and folder to report: the station. No torch."""
