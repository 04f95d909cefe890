"""Real servers from pip wheels: a PostgreSQL and a Valkey that start with the first client and stop after the last.

Nothing here knows what the servers are used for. The modules use the standard library alone, so that attaching to a
running server costs milliseconds; they need `fcntl`, hence Linux or macOS.

::

    EmbeddedService (lifecycle)      what a client does: hold the shared lock, start a watchdog if there is none
    ├── EmbeddedPostgres (postgres)  binaries by installations
    └── EmbeddedValkey (valkey)
    Watchdog (watchdog)              the server's parent: starts it, starts it again when it dies, stops it after the last client
    FileLock (locks), ServerUser (server_user)
"""
