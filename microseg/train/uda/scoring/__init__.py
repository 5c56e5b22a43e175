"""What is known of a bag on a target without labels: its consistency beside the unadapted bag's, and its fractions."""
