"""`report.html`: what a person reads, prints and signs."""
