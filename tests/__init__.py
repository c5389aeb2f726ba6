"""The tests of Hookledger, split by what is real in them: a unit, a database, a receiver, a process."""
