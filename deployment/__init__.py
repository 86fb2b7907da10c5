"""What becomes of a trained run: one file that runs anywhere, measured, in int8 too, and served."""
