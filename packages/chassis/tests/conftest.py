"""What all tests of the chassis share."""

pytest_plugins = ["event_loop", "postgres_fixtures"]
