"""What L2GNet adds to a U-Net: tokens come in, codes and their transport to references go out."""
