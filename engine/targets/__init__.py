"""Whom a Task state calls, one file for each kind of target. Knows no store and no runtime."""
