"""Which inputs and activations speak for a logit, and whether what a method says adds up."""
