"""usedge: time-of-flight intelligence for embedded ultrasound hardware."""

__version__ = "0.1.0"
