"""What the board tells about itself while it works: power, heat, clocks and load, sampled and explained."""
