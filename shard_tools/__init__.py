"""From clean speech, noise and room responses to shards of (degraded, clean) pairs."""
