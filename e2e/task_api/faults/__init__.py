"""What is broken on purpose, and what it costs those who ask meanwhile. See docs/faults.md."""
