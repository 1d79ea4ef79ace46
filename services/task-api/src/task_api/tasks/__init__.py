"""What a task is and what may be done with it."""
