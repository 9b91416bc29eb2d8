"""What CI sees of headless runs: JUnit, summaries, annotations, workflow files. Texts alone: nothing is run here."""
