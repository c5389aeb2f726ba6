"""Sources: topics of Kafka whose messages become events, each exactly once.

Read source.py first: the loop of one source. Positions lie in the log's own database and move with the events
(eventstore/sources), so that no death of a process, of PostgreSQL or of a broker loses or repeats a message.
"""
