"""What is composed of everything below: checks of a machine before it goes into the field."""
