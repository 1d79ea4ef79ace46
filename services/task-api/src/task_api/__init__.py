"""The Task Management API."""

__version__ = "0.1.0"
