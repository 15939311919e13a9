"""What every room stands on: errors, atomic files, commands, settings, the stop flag."""
