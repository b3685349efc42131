"""Fine-tune-CoT on JAX: large teachers write rationales, small students learn from them."""

from ftcot_jax.versions import check_versions

__version__ = "0.1.0"

check_versions()
