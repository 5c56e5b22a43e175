"""What every training loop needs."""
