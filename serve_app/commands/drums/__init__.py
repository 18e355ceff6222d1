"""`serve-app drums` and `serve-app drums-eval`: drums on the command line, without a server or over one."""
