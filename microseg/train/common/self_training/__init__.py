"""Learning from a network's own predictions: what adaptation and training with unlabelled fields share."""
