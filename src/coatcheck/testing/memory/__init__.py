"""A complete store in memory, and the database that it stands on."""
