"""Your Service."""
