"""Pure model code. Knows nothing of Ray or HTTP."""
