"""What every command needs of the operating system: ending in order, writing files safely, showing progress."""
