"""``timbre replay``: a step of a run is repeated, and each of its pairs looked at."""
