"""The warm server: it has imported what notebooks import, and forks a clean process for each command; Linux only."""
