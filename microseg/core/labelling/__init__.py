"""What to label next: the choice of fields, the folder of fields to label, and labels that networks doubt."""
