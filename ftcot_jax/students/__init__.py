"""Students as plain pytrees: architectures, Hugging Face weights in and out."""
