"""Seeded mistakes, and the proof that the tests notice each of them."""

from __future__ import annotations

from tests.mutants import machine, runtime

MUTANTS = (*machine.MUTANTS, *runtime.MUTANTS)
