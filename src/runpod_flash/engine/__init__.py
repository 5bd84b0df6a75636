"""Decides: which job runs where and when, and what is on record. Opens no payload, starts no process itself."""
