"""Rankcast measured beside its peers; see README.md.  Not part of the test suite, not installed."""
