"""The framework shared by all services of this repository. It depends on none of them."""
