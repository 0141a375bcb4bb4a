"""Tests for ears: a page that plays systems blindly, and what its listeners answered."""
