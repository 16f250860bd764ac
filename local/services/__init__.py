"""The processes of a local stack. Each module describes one part; `stack` starts, watches and stops them."""
