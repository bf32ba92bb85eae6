"""The device loop: source → A-scan → gate → picker → reading → sinks. Start at ``runner.py``."""
