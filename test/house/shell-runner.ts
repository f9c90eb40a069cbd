/** A stand-in for `baton agent run`: a shell that does what the assignment's SCRIPT says. */
export const SHELL_RUNNER = { command: ['/bin/sh', '-c', 'eval "$SCRIPT"', 'runner'] }
