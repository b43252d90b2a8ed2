"""The PostgreSQL store, through asyncpg."""
