"""Tasks: models, rules, operations and routes."""
