"""`--recipe auto`: a recipe from the fingerprint of a labelled domain, a short search, and a budget of minutes."""
