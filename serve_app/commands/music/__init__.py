"""`serve-app music`: pictures to music on the command line, without a server or over one."""
