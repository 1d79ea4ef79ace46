"""A minimal service, for tests of what every service has."""
