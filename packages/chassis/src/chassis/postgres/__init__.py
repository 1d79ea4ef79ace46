"""PostgreSQL: asyncpg, and what a service has to add to it. Imported by those alone whose requirements have asyncpg."""
