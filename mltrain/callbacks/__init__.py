"""Side effects that watch the loop and may ask it to stop. One file each."""
