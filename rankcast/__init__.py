"""The face of Rankcast: all that users import."""
