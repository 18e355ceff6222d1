"""Dialogues with a known truth, spoken by Debian's flite: the one that is shipped, and others to evaluate on."""
