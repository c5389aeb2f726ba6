"""Seals: what is stored of them, the rows that they cover, and the right to make the next one."""
