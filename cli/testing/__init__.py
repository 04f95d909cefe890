"""Testing state machines without a server: test files, expectations, coverage, reports, and a plugin for pytest.

Everything stands on `engine.runtime.mocks`. Imports nothing here, because pytest loads the plugin in projects that may not use it.
"""
