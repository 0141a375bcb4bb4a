"""What a loader promises, run and not claimed: scenarios, and adapters of a few lines for loaders."""
