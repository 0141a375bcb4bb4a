"""Programs that measure timbre and print JSON lines; each runs as `python -m benchmarks.NAME`."""
