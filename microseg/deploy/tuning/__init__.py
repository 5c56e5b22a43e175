"""Find the fastest configuration of an engine on this machine and keep it as a profile."""
