"""What the numbers of a report are made of: numpy only, one idea a file."""
