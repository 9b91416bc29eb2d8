"""What a run keeps of the code, the environment and the data that made it, and what is done with it later."""
