"""The ground of every room: errors, atomic files, commands, settings, the stop flag."""
