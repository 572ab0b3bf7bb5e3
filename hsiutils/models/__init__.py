"""The U-Net, its training, its scores and its file formats."""
