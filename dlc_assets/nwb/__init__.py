"""One NWB file a session: the released poses of every camera, beside the videos, as archives accept them."""
