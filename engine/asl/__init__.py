"""What a state machine is: its text parsed into a compiled model, and the rules the text must keep."""
