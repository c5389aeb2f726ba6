"""Sources: partitions of other logs whose messages become events, how far each was taken, and what was refused."""
