"""A rendered lab whose truth is known, so that the whole chain can be tried and measured without any data."""
