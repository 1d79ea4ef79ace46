pytest_plugins = ["event_loop", "postgres_fixtures"]
