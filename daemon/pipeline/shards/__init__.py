"""Which shards this process holds, and how they come and go."""
