"""Injected faults, and their effect on clients. See docs/faults.md."""
