"""Plugins of all chassis tests."""

pytest_plugins = ["event_loop", "postgres_fixtures", "workers"]
