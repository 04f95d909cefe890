"""Seeded mistakes, and the proof that the tests notice each of them."""

from __future__ import annotations

from tests.mutants import machine

MUTANTS = (*machine.MUTANTS,)
