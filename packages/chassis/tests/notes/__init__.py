"""A minimal service with a store, for tests of what every service with PostgreSQL has."""
