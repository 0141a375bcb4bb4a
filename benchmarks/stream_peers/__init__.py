"""Other loaders, each set up as its users would at their best; run by an interpreter of their own."""
