"""``timbre report``: where a run's time went, and how it learned, without TensorBoard."""
