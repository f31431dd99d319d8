"""What a trained model is worth: quality, capability, distance from the base, and how sure each number is."""
