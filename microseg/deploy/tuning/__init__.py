"""Find the fastest way to run an engine on this machine, and keep it as a profile."""
