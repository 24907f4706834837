"""The typed recipe: every setting defined, documented and checked in one place."""
