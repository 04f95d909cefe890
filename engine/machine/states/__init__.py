"""What each state type does, one file each."""
