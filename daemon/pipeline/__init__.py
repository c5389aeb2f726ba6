"""The way of one event, one module per stage: tail, decide, lane, gate, render, sign, send, classify, record."""
