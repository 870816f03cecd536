"""From slices to a trained model: settings and a data set come in, a run folder with weights and its log goes out."""
