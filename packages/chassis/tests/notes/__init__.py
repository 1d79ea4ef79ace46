"""A minimal service with storage, for tests of what every service with PostgreSQL has."""
