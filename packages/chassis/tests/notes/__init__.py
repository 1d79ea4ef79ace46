"""A service of a few lines that keeps something, for the tests of what every service with PostgreSQL has."""
