"""The consumer: pulls a released model, verifies it, loads it and serves it."""
