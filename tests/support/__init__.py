"""What the test layers share: renders (cached), the values matrix, selectors over objects, independent checkers."""
