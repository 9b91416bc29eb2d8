"""Live and later data against what the model was trained on."""
