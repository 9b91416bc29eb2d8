"""Where else a model is served than on this machine: images, clusters, and whatever MLflow deploys to."""
