"""A run as others can use it: weights, config, a card with its figures, and a state to go on from."""
