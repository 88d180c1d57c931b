"""What the approximations lose: the kernel error of random features, and what a memory keeps."""
