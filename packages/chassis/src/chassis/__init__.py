"""What every service of this repository stands on. It knows none of them."""
