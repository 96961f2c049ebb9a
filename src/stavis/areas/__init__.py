"""Areas of interest: how much attention each gets."""
