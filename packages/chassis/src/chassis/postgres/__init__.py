"""PostgreSQL: asyncpg, and what a service needs on top of it. Requires asyncpg, which services declare themselves."""
