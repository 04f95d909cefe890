"""Hypothesis strategies for JSON values, shared by the tests of `engine/query`."""

from __future__ import annotations

from hypothesis import strategies as st

from stepwell.engine.jsontypes import Json

NAMES = st.sampled_from(("a", "b", "c", "key", "long name", "ü"))

SCALARS: st.SearchStrategy[Json] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
)


def _containers(inner: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    return st.one_of(st.lists(inner, max_size=4), st.dictionaries(NAMES, inner, max_size=4))


DOCUMENTS: st.SearchStrategy[Json] = st.recursive(SCALARS, _containers, max_leaves=20)
OBJECTS: st.SearchStrategy[dict[str, Json]] = st.dictionaries(NAMES, DOCUMENTS, max_size=5)
