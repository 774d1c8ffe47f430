"""What the process imports from which the commands are forked."""
