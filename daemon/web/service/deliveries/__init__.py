"""Requests and answers as they are shown; sending again, one or many."""
