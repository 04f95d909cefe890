"""How data is read: paths, JSONata, intrinsic functions, templates and choice operators."""
