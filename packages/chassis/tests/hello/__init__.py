"""A minimal service, for the tests of what every service has."""
