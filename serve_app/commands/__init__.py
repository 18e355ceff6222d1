"""The parts of the command line `serve-app`, one folder a command."""
