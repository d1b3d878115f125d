"""What `gwm improve` reads and writes beside the rounds themselves."""
