"""A service of a few lines, for the tests of what every service has."""
