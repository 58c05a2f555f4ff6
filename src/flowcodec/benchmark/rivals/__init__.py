"""Neural rivals, plain re-implementations to train on the same photographs as FlowCodec: one file each."""
