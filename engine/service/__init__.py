"""The use-cases that REST, the AWS wire protocol and the command line share. Knows no HTTP."""
