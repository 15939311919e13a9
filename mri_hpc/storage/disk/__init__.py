"""What of a store lies on disk, file by file."""
