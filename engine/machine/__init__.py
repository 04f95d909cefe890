"""What a state machine does: the pure transition function and the data it works on."""
