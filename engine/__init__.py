"""The workflow engine: a pure interpreter of the Amazon States Language and what runs it durably."""
