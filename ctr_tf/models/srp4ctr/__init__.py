"""SRP4CTR (Han et al. 2024): sequences pre-trained on, transferred to CTR at folded cost."""
