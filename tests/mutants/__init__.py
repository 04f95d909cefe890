"""Seeded mistakes, and the proof that the tests notice each of them."""

from __future__ import annotations

from tests.mutants import machine, map_runs, runtime

MUTANTS = (*machine.MUTANTS, *runtime.MUTANTS, *map_runs.MUTANTS)
