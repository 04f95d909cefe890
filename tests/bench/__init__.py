"""Tests of the bench: small runs whose counts are checked."""
