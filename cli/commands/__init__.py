"""One module a family of subcommands; each is loaded only when it is called."""
